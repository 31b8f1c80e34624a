package bundle

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

func TestHostsFile(t *testing.T) {
	in := input(&spec.Service{ExtraHosts: []string{"up=host-gateway", "six=[2001:db8::1]"}})
	in.Network.HostGateway = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	in.Network.Hosts = []HostEntry{{netip.MustParseAddr("10.0.0.2"), []string{"web", "web.local"}}}
	b, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	want := localHosts + "10.0.0.1\tup\n2001:db8::1\tsix\n10.0.0.2\tweb web.local\n"
	if got := string(b.Files[2].Content); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	in.Network.Mode, in.Network.HostsBase = HostNet, []byte("127.0.0.1 me\n\n")
	in.Service = &spec.Service{}
	if b, err = Make(in); err != nil {
		t.Fatal(err)
	}
	if got, want := string(b.Files[2].Content), "127.0.0.1 me\n10.0.0.2\tweb web.local\n"; got != want {
		t.Errorf("on the host's network: got\n%s\nwant\n%s", got, want)
	}
}

func TestResolvConf(t *testing.T) {
	host := ParseResolv([]byte("# made\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\ndomain old\nsearch a.example b.example\noptions edns0 timeout:1\nsortlist x\n"))
	tests := []struct {
		name    string
		got     Resolv
		want    string
		service spec.Service
	}{
		{"as the host has it", HostResolv(&spec.Service{}, host), "nameserver 9.9.9.9\nnameserver 2620:fe::fe\nsearch a.example b.example\noptions edns0 timeout:1\n", spec.Service{}},
		{"networks of its own", PrivateResolv(&spec.Service{}, host), "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 timeout:1 ndots:0\n", spec.Service{}},
		{"dns_search and dns_opt", PrivateResolv(&spec.Service{DNSSearch: []string{"c"}, DNSOpt: []string{"ndots:3"}}, host), "nameserver 127.0.0.11\nsearch c\noptions ndots:3\n", spec.Service{}},
		{"no search", HostResolv(&spec.Service{DNS: []string{"1.1.1.1"}, DNSSearch: []string{"."}}, host), "nameserver 1.1.1.1\noptions edns0 timeout:1\n", spec.Service{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(test.got.Bytes()); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	if got := Upstreams(&spec.Service{DNS: []string{"1.1.1.1"}}, host); !slices.Equal(got, []string{"1.1.1.1"}) {
		t.Errorf("upstreams: %v", got)
	}
}

func TestNetworkFilesOfARunningContainerKeepTheirInode(t *testing.T) {
	in := input(&spec.Service{})
	in.Dir = t.TempDir()
	b, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(); err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(in.Dir, "hosts")
	before, _ := os.Stat(hosts)
	in.Network.Hosts = []HostEntry{{netip.MustParseAddr("10.0.0.2"), []string{"web"}}}
	if err := WriteNetworkFiles(in); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(hosts)
	if text, _ := os.ReadFile(hosts); !os.SameFile(before, after) || !strings.Contains(string(text), "10.0.0.2\tweb\n") {
		t.Errorf("same file: %v, content:\n%s", os.SameFile(before, after), text)
	}
}
