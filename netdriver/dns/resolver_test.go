package dns_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/firewall"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

// service is a container's namespace in which the name service answers.
type service struct {
	*drivertest.Namespace
	*dns.Resolver
	dir, hostFile string
}

func start(t testing.TB, cfg dns.Config) *service {
	t.Helper()
	s := &service{Namespace: drivertest.NewNamespace(t), dir: t.TempDir()}
	s.hostFile = filepath.Join(s.dir, "..", "resolv.conf")
	s.Resolver = dns.New(s.dir)
	s.SetHostFile(s.hostFile)
	s.LoopbackUp(t)
	ns, err := os.Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := firewall.Redirect(ns, dns.Address, dns.Port); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve("c1", s.Path(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *service) record(t testing.TB, network, id, container string, names []string, addrs ...string) {
	t.Helper()
	r := dns.Record{ContainerID: id, Container: container, Names: names}
	for _, a := range addrs {
		r.Addresses = append(r.Addresses, netip.MustParseAddr(a))
	}
	if err := dns.WriteRecord(s.dir, network, r); err != nil {
		t.Fatal(err)
	}
}

// ask sends one question from inside the container to 127.0.0.11:53.
func (s *service) ask(t testing.TB, network string, q *mdns.Msg) *mdns.Msg {
	t.Helper()
	var conn net.Conn
	s.Do(t, func() (err error) {
		conn, err = net.Dial(network, "127.0.0.11:53")
		return err
	})
	defer conn.Close()
	c := &mdns.Client{Net: network, Timeout: 20 * time.Second}
	answer, _, err := c.ExchangeWithConn(q, &mdns.Conn{Conn: conn})
	if err != nil {
		t.Fatalf("ask %v over %s: %v", q.Question, network, err)
	}
	return answer
}

func question(name string, kind uint16) *mdns.Msg {
	q := new(mdns.Msg)
	q.SetQuestion(mdns.Fqdn(name), kind)
	return q
}

// words of an answer: code, then the records' data sorted.
func words(m *mdns.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		f := strings.Fields(rr.String())
		out = append(out, f[len(f)-1])
	}
	slices.Sort(out)
	return strings.TrimSpace(mdns.RcodeToString[m.Rcode] + " " + strings.Join(out, " "))
}

func TestNamesOfContainers(t *testing.T) {
	s := start(t, dns.Config{
		Networks: []string{"app_front", "app_back"}, Closed: true,
		Links: map[string][]string{"Database": {"db"}, "web": {"db"}},
	})
	s.record(t, "app_front", "a1", "app-web-1", []string{"web", "app-web-1", "a1"}, "10.0.0.2", "fd00::2")
	s.record(t, "app_front", "a2", "app-web-2", []string{"web", "app-web-2", "a2"}, "10.0.0.3")
	s.record(t, "app_back", "b1", "app-db-1", []string{"db", "Big.Alias"}, "10.0.1.2")
	s.record(t, "app_back", "b2", "app-web-1", []string{"api"}, "10.0.1.3")
	s.record(t, "other", "c1", "other", []string{"secret"}, "10.0.2.2")
	cases := []struct {
		situation, name string
		kind            uint16
		want            string
	}{
		{"container name", "app-web-1", mdns.TypeA, "NOERROR 10.0.0.2"},
		{"container name, IPv6", "app-web-1", mdns.TypeAAAA, "NOERROR fd00::2"},
		{"name without an address of the family", "app-web-2", mdns.TypeAAAA, "NOERROR"},
		{"name of another type", "app-web-2", mdns.TypeMX, "NOERROR"},
		{"service of the second network", "api", mdns.TypeA, "NOERROR 10.0.1.3"},
		{"whatever the case", "API", mdns.TypeA, "NOERROR 10.0.1.3"},
		{"alias with a dot and capitals", "big.alias", mdns.TypeA, "NOERROR 10.0.1.2"},
		{"qualified by the network", "db.app_back", mdns.TypeA, "NOERROR 10.0.1.2"},
		{"qualified by the wrong network", "db.app_front", mdns.TypeA, "NXDOMAIN"},
		{"link alias", "database", mdns.TypeA, "NOERROR 10.0.1.2"},
		{"link alias hides a service", "web", mdns.TypeA, "NOERROR 10.0.1.2"},
		{"network the container is not on", "secret", mdns.TypeA, "NXDOMAIN"},
		{"unknown, nothing forwarded", "example.com", mdns.TypeA, "NXDOMAIN"},
		{"address to name", "2.0.0.10.in-addr.arpa", mdns.TypePTR, "NOERROR app-web-1.app_front."},
		{"address to name, IPv6", reverse(t, "fd00::2"), mdns.TypePTR, "NOERROR app-web-1.app_front."},
		{"unknown address", "9.9.9.10.in-addr.arpa", mdns.TypePTR, "NXDOMAIN"},
	}
	for _, c := range cases {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(c.situation+" "+network, func(t *testing.T) {
				if got := words(s.ask(t, network, question(c.name, c.kind))); got != c.want {
					t.Errorf("%s: %q, expected %q", c.name, got, c.want)
				}
			})
		}
	}
}

func reverse(t *testing.T, addr string) string {
	name, err := mdns.ReverseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReplicasTakeTurnsInBeingFirst(t *testing.T) {
	s := start(t, dns.Config{Networks: []string{"n"}})
	for i := range 3 {
		s.record(t, "n", fmt.Sprint("c", i), "", []string{"web"}, fmt.Sprint("10.0.0.", i+2))
	}
	first := map[string]int{}
	for range 6 {
		m := s.ask(t, "udp", question("web", mdns.TypeA))
		if len(m.Answer) != 3 {
			t.Fatalf("%d answers, expected 3", len(m.Answer))
		}
		first[m.Answer[0].(*mdns.A).A.String()]++
	}
	if len(first) != 3 {
		t.Errorf("first answers of six questions: %v, expected every replica", first)
	}
}

func TestChangesShowAtOnce(t *testing.T) {
	s := start(t, dns.Config{Networks: []string{"n"}, Closed: true})
	s.record(t, "n", "keep", "", []string{"other"}, "10.0.0.9")
	for i := range 200 {
		s.record(t, "n", "c1", "", []string{"web"}, fmt.Sprintf("10.0.1.%d", i))
		if got, want := words(s.ask(t, "udp", question("web", mdns.TypeA))), fmt.Sprintf("NOERROR 10.0.1.%d", i); got != want {
			t.Fatalf("after change %d: %q, expected %q", i, got, want)
		}
	}
	if err := dns.Withdraw(s.dir, "c1"); err != nil {
		t.Fatal(err)
	}
	if got := words(s.ask(t, "udp", question("web", mdns.TypeA))); got != "NXDOMAIN" {
		t.Errorf("after withdrawal: %q", got)
	}
	if got := words(s.ask(t, "udp", question("other", mdns.TypeA))); got != "NOERROR 10.0.0.9" {
		t.Errorf("another container after withdrawal: %q", got)
	}
}

func TestManyReplicasAreTruncatedOverUDP(t *testing.T) {
	s := start(t, dns.Config{Networks: []string{"n"}})
	for i := range 200 {
		s.record(t, "n", fmt.Sprint("c", i), "", []string{"web"}, fmt.Sprint("10.0.0.", i+2))
	}
	m := s.ask(t, "udp", question("web", mdns.TypeA))
	if !m.Truncated || len(m.Answer) == 0 || len(m.Answer) == 200 {
		t.Errorf("over UDP: truncated %v, %d answers", m.Truncated, len(m.Answer))
	}
	q := question("web", mdns.TypeA)
	q.SetEdns0(4096, false)
	if m := s.ask(t, "udp", q); m.Truncated || len(m.Answer) != 200 || m.IsEdns0() == nil {
		t.Errorf("over UDP with EDNS: truncated %v, %d answers, EDNS %v", m.Truncated, len(m.Answer), m.IsEdns0())
	}
	if m := s.ask(t, "tcp", question("web", mdns.TypeA)); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("over TCP: truncated %v, %d answers", m.Truncated, len(m.Answer))
	}
}

// upstream is a name server of the host, or in a namespace, that answers by fn.
func upstream(t testing.TB, in *drivertest.Namespace, addr string, fn func(q *mdns.Msg, network string) *mdns.Msg) {
	t.Helper()
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		if a := fn(q, w.RemoteAddr().Network()); a != nil {
			w.WriteMsg(a)
		}
	})
	listen := func() error {
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		for _, s := range []*mdns.Server{{PacketConn: p, Handler: handler}, {Listener: l, Handler: handler}} {
			ready := make(chan struct{})
			s.NotifyStartedFunc = func() { close(ready) }
			go s.ActivateAndServe()
			<-ready
			t.Cleanup(func() { s.Shutdown() })
		}
		return nil
	}
	if in != nil {
		in.Do(t, listen)
	} else if err := listen(); err != nil {
		t.Fatal(err)
	}
}

func says(addr string) func(*mdns.Msg, string) *mdns.Msg {
	return func(q *mdns.Msg, _ string) *mdns.Msg {
		m := new(mdns.Msg).SetReply(q)
		rr, _ := mdns.NewRR(q.Question[0].Name + " 60 IN A " + addr)
		m.Answer = append(m.Answer, rr)
		return m
	}
}

func (s *service) hostServers(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(s.hostFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheRestIsForwarded(t *testing.T) {
	s := start(t, dns.Config{Networks: []string{"n"}})
	s.record(t, "n", "c9", "", []string{"web"}, "10.0.0.2")
	upstream(t, nil, "127.0.0.1:53", says("192.0.2.1"))
	s.hostServers(t, "nameserver 127.0.0.1\n")
	for _, network := range []string{"udp", "tcp"} {
		if got := words(s.ask(t, network, question("example.com", mdns.TypeA))); got != "NOERROR 192.0.2.1" {
			t.Errorf("forwarded over %s: %q", network, got)
		}
	}
	if got := words(s.ask(t, "udp", question("web", mdns.TypeA))); got != "NOERROR 10.0.0.2" {
		t.Errorf("own name: %q", got)
	}
	if err := s.Serve("c1", s.Path(), dns.Config{Networks: []string{"n"}, Closed: true}); err != nil {
		t.Fatal(err)
	}
	if got := words(s.ask(t, "udp", question("example.com", mdns.TypeA))); got != "NXDOMAIN" {
		t.Errorf("after closing: %q", got)
	}
}

func TestHostFileIsReadAgainWhenItChanges(t *testing.T) {
	s := start(t, dns.Config{})
	upstream(t, nil, "127.0.0.2:53", says("192.0.2.2"))
	upstream(t, nil, "127.0.0.3:53", says("192.0.2.33"))
	s.hostServers(t, "nameserver 127.0.0.2\n")
	if got := words(s.ask(t, "udp", question("example.com", mdns.TypeA))); got != "NOERROR 192.0.2.2" {
		t.Errorf("before: %q", got)
	}
	s.hostServers(t, "# changed\nnameserver 127.0.0.3\n")
	if got := words(s.ask(t, "udp", question("example.com", mdns.TypeA))); got != "NOERROR 192.0.2.33" {
		t.Errorf("after: %q", got)
	}
}

func TestBadUpstreams(t *testing.T) {
	fails := func(q *mdns.Msg, _ string) *mdns.Msg { return new(mdns.Msg).SetRcode(q, mdns.RcodeServerFailure) }
	silent := func(*mdns.Msg, string) *mdns.Msg { return nil }
	lies := func(q *mdns.Msg, _ string) *mdns.Msg {
		m := says("6.6.6.6")(q, "")
		m.Id++
		return m
	}
	cuts := func(q *mdns.Msg, network string) *mdns.Msg {
		if network == "tcp" {
			return says("192.0.2.7")(q, network)
		}
		m := new(mdns.Msg).SetReply(q)
		m.Truncated = true
		return m
	}
	upstream(t, nil, "127.0.1.1:53", fails)
	upstream(t, nil, "127.0.1.2:53", silent)
	upstream(t, nil, "127.0.1.3:53", lies)
	upstream(t, nil, "127.0.1.4:53", says("192.0.2.4"))
	upstream(t, nil, "127.0.1.5:53", cuts)
	cases := []struct{ situation, file, want string }{
		{"first fails", "nameserver 127.0.1.1\nnameserver 127.0.1.4", "NOERROR 192.0.2.4"},
		{"first is silent", "nameserver 127.0.1.2\nnameserver 127.0.1.4\noptions timeout:1", "NOERROR 192.0.2.4"},
		{"first answers something else", "nameserver 127.0.1.3\nnameserver 127.0.1.4\noptions timeout:1", "NOERROR 192.0.2.4"},
		{"first does not exist", "nameserver 127.0.1.99\nnameserver 127.0.1.4", "NOERROR 192.0.2.4"},
		{"all fail", "nameserver 127.0.1.1\nnameserver 127.0.1.99", "SERVFAIL"},
		{"none answers", "nameserver 127.0.1.2\noptions timeout:1 attempts:1", "SERVFAIL"},
		{"truncated is passed on", "nameserver 127.0.1.5", "NOERROR"},
		{"by TCP on request of the host", "nameserver 127.0.1.5\noptions use-vc", "NOERROR 192.0.2.7"},
	}
	for _, c := range cases {
		t.Run(c.situation, func(t *testing.T) {
			t.Parallel()
			s := start(t, dns.Config{})
			s.hostServers(t, c.file)
			if got := words(s.ask(t, "udp", question("example.com", mdns.TypeA))); got != c.want {
				t.Errorf("%q, expected %q", got, c.want)
			}
		})
	}
}

func TestNamedServersAreAskedFromInside(t *testing.T) {
	s := start(t, dns.Config{Servers: []string{"127.0.0.1"}})
	upstream(t, nil, "127.0.0.1:53", says("192.0.2.1"))
	upstream(t, s.Namespace, "127.0.0.1:53", says("192.0.2.99"))
	for _, network := range []string{"udp", "tcp"} {
		if got := words(s.ask(t, network, question("example.com", mdns.TypeA))); got != "NOERROR 192.0.2.99" {
			t.Errorf("over %s: %q, expected the server in the container's namespace", network, got)
		}
	}
}

func TestContainerMayHavePort53(t *testing.T) {
	s := start(t, dns.Config{Networks: []string{"n"}})
	s.record(t, "n", "c9", "", []string{"web"}, "10.0.0.2")
	upstream(t, s.Namespace, "0.0.0.0:53", says("192.0.2.53"))
	if got := words(s.ask(t, "udp", question("web", mdns.TypeA))); got != "NOERROR 10.0.0.2" {
		t.Errorf("name service beside the container's own: %q", got)
	}
}

func TestManyQuestionsAtOnceAreAllAnswered(t *testing.T) {
	s := start(t, dns.Config{Networks: []string{"n"}})
	s.record(t, "n", "c9", "", []string{"web"}, "10.0.0.2")
	var asked atomic.Int32
	upstream(t, nil, "127.0.0.1:53", func(q *mdns.Msg, n string) *mdns.Msg { asked.Add(1); return says("192.0.2.1")(q, n) })
	s.hostServers(t, "nameserver 127.0.0.1\n")
	done := make(chan string)
	const n = 100
	for i := range n {
		go func() {
			name := []string{"web", "example.com"}[i%2]
			done <- words(s.ask(t, "udp", question(name, mdns.TypeA)))
		}()
	}
	got := map[string]int{}
	for range n {
		got[<-done]++
	}
	if got["NOERROR 10.0.0.2"] != n/2 || got["NOERROR 192.0.2.1"] != n/2 || asked.Load() != n/2 {
		t.Errorf("answers: %v, asked upstream: %d", got, asked.Load())
	}
}

func TestStopFreesTheNamespace(t *testing.T) {
	s := start(t, dns.Config{})
	s.Stop("c1")
	s.Stop("never served")
	if err := s.Serve("c2", s.Path(), dns.Config{}); err != nil {
		t.Fatalf("serve again after stop: %v", err)
	}
	if err := s.Serve("c3", s.Path(), dns.Config{}); err == nil {
		t.Error("two containers serve in one namespace")
	}
}

func BenchmarkServe(b *testing.B) {
	dir := b.TempDir()
	r := dns.New(dir)
	defer r.Close()
	for i := range b.N {
		b.StopTimer()
		n := drivertest.NewNamespace(b)
		n.LoopbackUp(b)
		b.StartTimer()
		if err := r.Serve(fmt.Sprint(i), n.Path(), dns.Config{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuery(b *testing.B) {
	s := start(b, dns.Config{Networks: []string{"n"}})
	s.record(b, "n", "c9", "", []string{"web"}, "10.0.0.2")
	var conn net.Conn
	s.Do(b, func() (err error) { conn, err = net.Dial("udp", "127.0.0.11:53"); return err })
	defer conn.Close()
	c := &mdns.Client{}
	for b.Loop() {
		if _, _, err := c.ExchangeWithConn(question("web", mdns.TypeA), &mdns.Conn{Conn: conn}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestServersTakeTurnsWhereTheHostSaysSo(t *testing.T) {
	s := start(t, dns.Config{})
	upstream(t, nil, "127.0.2.1:53", says("192.0.2.1"))
	upstream(t, nil, "127.0.2.2:53", says("192.0.2.2"))
	s.hostServers(t, "nameserver 127.0.2.1\nnameserver 127.0.2.2\noptions rotate\n")
	got := map[string]bool{}
	for range 4 {
		got[words(s.ask(t, "udp", question("example.com", mdns.TypeA)))] = true
	}
	if len(got) != 2 {
		t.Errorf("answers %v, expected those of both servers", got)
	}
}
