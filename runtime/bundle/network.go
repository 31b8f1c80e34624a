package bundle

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// DNSAddress is where a container with networks of its own finds its name server.
const DNSAddress = "127.0.0.11"

// Resolv is what /etc/resolv.conf says.
type Resolv struct {
	Nameservers []string
	Search      []string
	Options     []string
}

// ParseResolv reads a resolv.conf. Lines it does not know are left out, as the C library does.
func ParseResolv(content []byte) Resolv {
	var r Resolv
	for line := range strings.Lines(string(content)) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.Nameservers = append(r.Nameservers, fields[1])
		case "search", "domain": // the last one counts
			r.Search = fields[1:]
		case "options":
			r.Options = append(r.Options, fields[1:]...)
		}
	}
	return r
}

// Bytes is the file's content.
func (r Resolv) Bytes() []byte {
	var b bytes.Buffer
	for _, n := range r.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}

// HostResolv is for a container on the host's network: the host's, except for what the service says.
func HostResolv(s *spec.Service, host Resolv) Resolv {
	r := Resolv{host.Nameservers, host.Search, host.Options}
	if len(s.DNS) > 0 {
		r.Nameservers = s.DNS
	}
	if len(s.DNSSearch) > 0 {
		r.Search = s.DNSSearch
	}
	if len(s.DNSOpt) > 0 {
		r.Options = s.DNSOpt
	}
	if slices.Equal(r.Search, []string{"."}) { // Docker's way to say: none
		r.Search = nil
	}
	return r
}

// PrivateResolv is for a container on networks of its own: Stack's server in the container's network, which asks the
// Upstreams. Names with no dot are looked up as they are first, since they are services.
func PrivateResolv(s *spec.Service, host Resolv) Resolv {
	r := HostResolv(s, host)
	r.Nameservers = []string{DNSAddress}
	if !slices.ContainsFunc(r.Options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		r.Options = append(slices.Clone(r.Options), "ndots:0")
	}
	return r
}

// Upstreams are the name servers that the container's server forwards to.
func Upstreams(s *spec.Service, host Resolv) []string { return HostResolv(s, host).Nameservers }

const localHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
ff00::0	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// hostsContent is /etc/hosts: the base, the container's own entries, extra_hosts.
func hostsContent(in Input) ([]byte, error) {
	var b bytes.Buffer
	if in.Network.Mode == HostNet && in.Network.HostsBase != nil {
		b.Write(bytes.TrimRight(in.Network.HostsBase, "\n"))
		b.WriteByte('\n')
	} else {
		b.WriteString(localHosts)
	}
	for i, text := range in.Service.ExtraHosts {
		name, address, ok := strings.Cut(text, "=")
		attribute := fmt.Sprintf("extra_hosts[%d]", i)
		if !ok || name == "" || strings.ContainsAny(name, " \t\n") {
			return nil, invalid(attribute, "%q is not of the form name=address", text)
		}
		if address == "host-gateway" {
			if len(in.Network.HostGateway) == 0 {
				return nil, unsupported(attribute, "the host has no address that this container can reach")
			}
			for _, a := range in.Network.HostGateway {
				fmt.Fprintf(&b, "%s\t%s\n", a, name)
			}
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if err != nil {
			return nil, invalid(attribute, "%q is not an address", address)
		}
		fmt.Fprintf(&b, "%s\t%s\n", a, name)
	}
	for _, e := range in.Network.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", e.Addr, strings.Join(e.Names, " "))
	}
	return b.Bytes(), nil
}

// networkContent are hosts, hostname and resolv.conf; none where another container's are used.
func networkContent(in Input) ([]HostFile, error) {
	if in.Network.FilesFrom != "" {
		return nil, nil
	}
	hosts, err := hostsContent(in)
	if err != nil {
		return nil, err
	}
	uid, err := hostID(0, in.UIDs)
	if err != nil {
		return nil, err
	}
	gid, err := hostID(0, in.GIDs)
	if err != nil {
		return nil, err
	}
	b := builder{Input: in}
	contents := map[string][]byte{
		"hosts":       hosts,
		"hostname":    []byte(b.hostname() + "\n"),
		"resolv.conf": in.Network.Resolv.Bytes(),
	}
	var files []HostFile
	for _, f := range networkFiles {
		files = append(files, HostFile{Path: filepath.Join(in.Dir, f.name), Content: contents[f.name], Mode: 0o644, UID: uid, GID: gid})
	}
	return files, nil
}

// WriteNetworkFiles writes hosts, hostname and resolv.conf of a running container anew, in place: the container has the files
// themselves mounted, so a file put in their stead would not be seen.
func WriteNetworkFiles(in Input) error {
	files, err := networkContent(in)
	if err != nil {
		return err
	}
	for _, f := range files {
		old, err := os.ReadFile(f.Path)
		if err == nil && bytes.Equal(old, f.Content) {
			continue
		}
		if err := os.WriteFile(f.Path, f.Content, f.Mode); err != nil {
			return err
		}
	}
	return nil
}
