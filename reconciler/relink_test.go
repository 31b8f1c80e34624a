package reconciler

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// links are the network interfaces that a container sees.
func (h *host) links(s Status) (names []string) {
	h.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(s.View.State.PID) + "/net/dev")
	h.Must(err)
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "lo" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// free tells whether anybody could have a port of the host.
func free(port int) bool {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func ports(pairs ...string) (list []spec.Port) {
	for _, pair := range pairs {
		published, target, _ := strings.Cut(pair, ":")
		n, _ := strconv.ParseUint(target, 10, 16)
		list = append(list, spec.Port{Published: published, Target: uint16(n), Protocol: "tcp"})
	}
	return list
}

func TestPortsChangeUnderTheRunningContainer(t *testing.T) {
	h := newHost(t)
	with := func(pairs ...string) *spec.Stack {
		svc := service("web", "sleep")
		svc.Ports = ports(pairs...)
		return stackOf("one", svc)
	}
	h.up(with("18081:80", ":90"))
	before := h.one("one", "web")
	random := int(before.Endpoints[0].Ports[1].HostPort)
	h.updates(with(":90", "18082:80"))
	after := h.one("one", "web")
	if after.View.State.PID != before.View.State.PID || after.ID != before.ID {
		t.Fatal("the container is another one")
	}
	if got := after.Endpoints[0].Ports; len(got) != 2 || int(got[0].HostPort) != random || got[1].HostPort != 18082 {
		t.Errorf("the ports are %+v; the one that the host chose was %d", got, random)
	}
	for port, want := range map[int]bool{18081: true, 18082: false, random: false} {
		if got := free(port); got != want {
			t.Errorf("port %d is free: %v", port, got)
		}
	}
	h.close()
	h.open()
	if n := h.up(with(":90", "18082:80")); n != 0 {
		t.Errorf("an up with nothing to do did %d things", n)
	}
	h.updates(with())
	if !free(18082) || !free(random) {
		t.Error("ports are held that are published no longer")
	}
}

func TestAPortThatIsTakenLeavesTheOldOnes(t *testing.T) {
	h := newHost(t)
	with := func(pairs ...string) *spec.Stack {
		svc := service("web", "sleep")
		svc.Ports = ports(pairs...)
		return stackOf("one", svc)
	}
	h.up(with("18081:80"))
	l, err := net.Listen("tcp", ":18083")
	h.Must(err)
	defer l.Close()
	_, err = h.Up(h.Context(), with("18083:80"), UpOptions{}, nil)
	mentions(t, err, "service.web[1]", "18083")
	after := h.one("one", "web")
	if after.State != planner.Running || after.Updating || after.Endpoints[0].Ports[0].HostPort != 18081 || free(18081) {
		t.Errorf("it is %s, updating %v, with the ports %+v; 18081 is free: %v", after.State, after.Updating, after.Endpoints[0].Ports, free(18081))
	}
	if n := h.up(with("18081:80")); n != 0 {
		t.Errorf("going back to what is did %d things", n)
	}
}

// onNetworks is a stack with a service on networks.
func onNetworks(attachments map[string]*spec.Attachment) *spec.Stack {
	svc := service("web", "sleep")
	svc.Networks, svc.Ports = attachments, ports("18081:80")
	s := stackOf("one", svc, service("db", "sleep"))
	for _, key := range []string{"back", "aside"} {
		s.Networks[key] = &spec.Network{Key: key, Name: "one_" + key}
	}
	return s
}

func TestNetworksChangeUnderTheRunningContainer(t *testing.T) {
	h := newHost(t)
	h.up(onNetworks(map[string]*spec.Attachment{"default": nil}))
	before := h.one("one", "web")
	address := before.Endpoints[0].IPv4

	h.Must(func() error { // "aside" and "back" sort before "default", whose interface and way out stay all the same
		_, err := h.Up(h.Context(), onNetworks(map[string]*spec.Attachment{"default": {Aliases: []string{"www"}}, "back": {Aliases: []string{"shop"}}, "aside": nil}), UpOptions{}, nil)
		return err
	}())
	after := h.one("one", "web")
	if after.View.State.PID != before.View.State.PID {
		t.Fatal("the container is another one")
	}
	if got := h.links(after); !slices.Equal(got, []string{"eth0", "eth1", "eth2"}) {
		t.Errorf("it sees the links %v", got)
	}
	on := func(s Status, network string) netdriver.Endpoint {
		i := slices.IndexFunc(s.Endpoints, func(ep netdriver.Endpoint) bool { return ep.Network == network })
		if i < 0 {
			return netdriver.Endpoint{}
		}
		return s.Endpoints[i]
	}
	first := on(after, "one_default")
	if first.IPv4 != address || first.Interface != "eth0" || !first.Gateway || len(first.Ports) != 1 || !slices.Contains(first.Names, "www") {
		t.Errorf("its place on the first network is %+v", first)
	}
	if ep := on(after, "one_back"); !slices.Contains(ep.Names, "shop") || ep.Gateway || !ep.IPv4.IsValid() {
		t.Errorf("its place on the second network is %+v", ep)
	}
	hosts, err := os.ReadFile("/proc/" + strconv.Itoa(after.View.State.PID) + "/root/etc/hosts")
	h.Must(err)
	if !strings.Contains(string(hosts), on(after, "one_back").IPv4.Addr().String()) {
		t.Errorf("its hosts are\n%s", hosts)
	}

	// The network with the way out goes: another one takes its place.
	h.updates(onNetworks(map[string]*spec.Attachment{"back": {Aliases: []string{"shop"}}}))
	last := h.one("one", "web")
	if got := h.links(last); last.View.State.PID != before.View.State.PID || len(got) != 1 {
		t.Errorf("it sees the links %v", got)
	}
	if ep := on(last, "one_back"); ep.IPv4 != on(after, "one_back").IPv4 || !ep.Gateway || len(ep.Ports) != 1 || ep.Ports[0].HostPort != 18081 {
		t.Errorf("its place on the network that is left is %+v", ep)
	}
	drift, err := h.networks.ObserveSandboxes(h.Context(), []netdriver.Sandbox{{ContainerID: last.ID, Netns: last.View.State.Netns, Endpoints: last.Endpoints}})
	h.Must(err)
	if len(drift) > 0 {
		t.Errorf("of what it should have in the kernel there is missing or differs: %v", drift)
	}
	// What it left is free for others.
	h.Must(h.networks.Remove(h.Context(), "one_aside"))
}

func TestAChangeOfNetworksThatACrashInterruptedIsFinished(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(map[bool]string{false: "by going on", true: "by going back"}[back], func(t *testing.T) {
			h := newHost(t)
			first := onNetworks(map[string]*spec.Attachment{"default": nil})
			h.up(first)
			web := h.one("one", "web")
			wanted := onNetworks(map[string]*spec.Attachment{"default": nil, "back": nil})
			// As a daemon leaves it that is killed after the links are made: all is done but the record's last line.
			for _, key := range []string{"back"} {
				n, err := network("one", wanted.Networks[key])
				h.Must(err)
				_, _, err = h.networks.Ensure(h.Context(), n)
				h.Must(err)
			}
			_, err := h.stack("one").lock(h.Context(), nil) // as the operation that was interrupted
			h.Must(err)
			u := updating{r: h.Reconciler, stack: wanted, old: web.View, service: wanted.Services["web"], labels: web.Labels}
			h.Must(u.live(h.Context()))
			if got := h.links(web); len(got) != 2 || !h.one("one", "web").Updating {
				t.Fatalf("the links are %v", got)
			}
			h.close()
			h.open()
			want := 2
			if back {
				wanted, want = first, 1
			}
			h.up(wanted) // the daemon may have gone back to what it knows by then
			after := h.becomes("one", "web", "as wanted", func(s Status) bool { return !s.Updating && len(s.Endpoints) == want })
			if got := h.links(after); len(got) != want || after.View.State.PID != web.View.State.PID {
				t.Errorf("the links are %v, the process %d instead of %d", got, after.View.State.PID, web.View.State.PID)
			}
			if free(18081) {
				t.Error("its port is free")
			}
			if n := h.up(wanted); n != 0 {
				t.Errorf("an up with nothing to do did %d things", n)
			}
		})
	}
}

func TestNetworksOfAStoppedContainerChangeOnRecord(t *testing.T) {
	h := newHost(t)
	h.up(onNetworks(map[string]*spec.Attachment{"default": nil}))
	before := h.one("one", "web")
	h.Must(h.stopContainer(h.Context(), stopRequest{id: before.ID}))
	h.up(onNetworks(map[string]*spec.Attachment{"back": nil}))
	after := h.becomes("one", "web", "running", is(planner.Running))
	if after.ID != before.ID || len(h.links(after)) != 1 || after.Endpoints[0].Network != "one_back" {
		t.Errorf("container %.12s instead of %.12s, its places are %+v", after.ID, before.ID, after.Endpoints)
	}
	if _, leased := h.networks.Get("one_default"); leased != nil {
		t.Error(leased)
	}
}

func TestNameServersAndHostsChangeUnderTheRunningContainer(t *testing.T) {
	h := newHost(t)
	with := func(change func(*spec.Service)) *spec.Stack {
		svc := service("web", "sleep")
		change(svc)
		return stackOf("one", svc)
	}
	h.up(with(func(*spec.Service) {}))
	before := h.one("one", "web")
	h.updates(with(func(s *spec.Service) {
		s.DNSSearch, s.ExtraHosts = []string{"example.org"}, []string{"db=10.9.8.7"}
	}))
	after := h.one("one", "web")
	for file, want := range map[string]string{"/etc/resolv.conf": "search example.org", "/etc/hosts": "10.9.8.7\tdb"} {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(after.View.State.PID) + "/root" + file)
		h.Must(err)
		if !strings.Contains(string(data), want) || after.View.State.PID != before.View.State.PID {
			t.Errorf("%s in the container is\n%s", file, data)
		}
	}
}
