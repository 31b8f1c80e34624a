package dns

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzAnswer: whatever a container sends, the answer is none or a well-formed response under the same id that fits.
func FuzzAnswer(f *testing.F) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	b.StartQuestions()
	b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName("web."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
	seed, _ := b.Finish()
	f.Add(seed, false)
	f.Add(seed, true)
	f.Add([]byte{}, false)
	f.Add(append(seed, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0), false)
	dir := f.TempDir()
	if err := WriteRecord(dir, "n", Record{ContainerID: "a", Container: "a", Names: []string{"web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}}); err != nil {
		f.Fatal(err)
	}
	r := New(dir)
	cfg := &Config{Networks: []string{"n"}, Closed: true, Links: map[string][]string{"l": {"web"}}}
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		reply, later := r.answer(raw, cfg, "", tcp)
		if later != nil {
			t.Fatal("forwards although closed")
		}
		if reply == nil {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(reply)
		if err != nil {
			t.Fatalf("reply can't be read: %v", err)
		}
		if !h.Response || h.ID != binary.BigEndian.Uint16(raw) {
			t.Fatalf("reply %+v does not answer %x", h, raw[:2])
		}
		if err := p.SkipAllQuestions(); err != nil {
			t.Fatal(err)
		}
		if err := p.SkipAllAnswers(); err != nil {
			t.Fatal(err)
		}
		if q, code, ok := parse(raw); !tcp && ok && code == 0 && len(reply) > max(512, q.maxUDP) {
			t.Fatalf("reply of %d bytes, the client takes %d", len(reply), q.maxUDP)
		}
	})
}

// FuzzAnswers: no upstream answer, however broken, is taken out of bounds.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x00\x01\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01"))
	question := []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01")
	f.Fuzz(func(t *testing.T, b []byte) { answers(question, b, len(question)) })
}

func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 127.0.0.53\noptions edns0 trust-ad timeout:1 attempts:3 rotate\nsearch lan\n")
	f.Add("nameserver fe80::1%eth0\n; comment\nnameserver\n")
	f.Fuzz(func(t *testing.T, text string) {
		u := parseResolvConf(text)
		if len(u.servers) == 0 || u.timeout <= 0 || u.timeout > maxTimeout || u.attempts <= 0 || u.attempts > maxAttempts {
			t.Errorf("%q: %+v", text, u)
		}
	})
}

func FuzzReverseAddr(f *testing.F) {
	f.Add("2.0.0.10.in-addr.arpa")
	f.Add("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa")
	f.Fuzz(func(t *testing.T, name string) { reverseAddr(name) })
}

func TestResolvConf(t *testing.T) {
	addr := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 53) }
	cases := []struct {
		situation, text string
		servers         []netip.AddrPort
	}{
		{"empty: the one on this machine", "", []netip.AddrPort{addr("127.0.0.1")}},
		{"all servers, loopback ones too", "nameserver 127.0.0.53\nnameserver 1.1.1.1\nnameserver ::1\n", []netip.AddrPort{addr("127.0.0.53"), addr("1.1.1.1"), addr("::1")}},
		{"link-local with a zone", "nameserver fe80::1%eth0\n", []netip.AddrPort{addr("fe80::1%eth0")}},
		{"comments and nonsense", "# nameserver 9.9.9.9\n;nameserver 9.9.9.9\nnameserver nine\nnameserver\tfd00::1 trailing\n", []netip.AddrPort{addr("fd00::1")}},
	}
	for _, c := range cases {
		t.Run(c.situation, func(t *testing.T) {
			got := parseResolvConf(c.text)
			if len(got.servers) != len(c.servers) {
				t.Fatalf("servers %v, expected %v", got.servers, c.servers)
			}
			for i := range c.servers {
				if got.servers[i] != c.servers[i] {
					t.Errorf("servers %v, expected %v", got.servers, c.servers)
				}
			}
		})
	}
}
