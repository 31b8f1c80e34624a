package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/dump"
)

// Observe implements netdriver.Driver.
func (d *Driver) Observe(_ context.Context, n netdriver.Network) ([]string, error) {
	if n.Link == "" {
		return []string{fmt.Sprintf("bridge %s is not on record", d.linkName(n))}, nil
	}
	l, err := netlink.LinkByName(n.Link)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return []string{fmt.Sprintf("bridge %s is missing", n.Link)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", n.Link, err)
	}
	var drift []string
	if l.Attrs().Flags&net.FlagUp == 0 {
		drift = append(drift, fmt.Sprintf("bridge %s is down", n.Link))
	}
	have, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", n.Link, err)
	}
	for _, want := range append(gateways(n), virtual(n)...) {
		if !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == want.String() }) {
			drift = append(drift, fmt.Sprintf("bridge %s lacks its address %s", n.Link, want))
		}
	}
	for key, want := range linkSettings(n) {
		b, err := os.ReadFile(filepath.Join("/proc/sys/net", key))
		if got := strings.TrimSpace(string(b)); got != want && !errors.Is(err, fs.ErrNotExist) {
			drift = append(drift, fmt.Sprintf("%s is %s", key, got))
		}
	}
	words, err := d.fw.Observe(d.entry(n, mustParse(n)))
	return append(drift, words...), err
}

// ObserveSandboxes implements netdriver.SandboxObserver: one list of the host's links for all, then a look into each
// namespace.
func (d *Driver) ObserveSandboxes(ctx context.Context, networks map[string]netdriver.Network, sandboxes []netdriver.Sandbox) (map[string][]string, error) {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	byName := make(map[string]netlink.Link, len(links))
	for _, l := range links {
		byName[l.Attrs().Name] = l
	}
	out := map[string][]string{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, s := range sandboxes {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			words := d.outside(networks, byName, s)
			inside, err := inside(networks, s)
			if err != nil {
				return fmt.Errorf("container %s: %w", s.ContainerID, err)
			}
			if words = append(words, inside...); len(words) > 0 {
				mu.Lock()
				defer mu.Unlock()
				out[s.ContainerID] = words
			}
			return nil
		})
	}
	err = group.Wait()
	return out, err
}

// outside looks at the host's ends of a sandbox's links.
func (d *Driver) outside(networks map[string]netdriver.Network, links map[string]netlink.Link, s netdriver.Sandbox) (words []string) {
	for _, e := range s.Endpoints {
		name := d.portName(e.Network, s.ContainerID)
		port, br := links[name], links[networks[e.Network].Link]
		switch {
		case port == nil:
			words = append(words, fmt.Sprintf("link %s to network %s is missing", name, e.Network))
		case br == nil || port.Attrs().MasterIndex != br.Attrs().Index:
			words = append(words, fmt.Sprintf("link %s is not on the bridge of network %s", name, e.Network))
		case port.Attrs().Flags&net.FlagUp == 0:
			words = append(words, fmt.Sprintf("link %s to network %s is down", name, e.Network))
		}
	}
	return words
}

// inside looks at a sandbox's own links, addresses and routes. One that is gone has nothing to look at.
func inside(networks map[string]netdriver.Network, s netdriver.Sandbox) (words []string, err error) {
	ns, err := os.Open(s.Netns)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	in, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("enter network namespace: %w", err)
	}
	defer in.Close()
	links, err := dump.Whole(in.LinkList)
	if err != nil {
		return nil, fmt.Errorf("its links: %w", err)
	}
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return in.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("its addresses: %w", err)
	}
	routes, err := dump.Whole(func() ([]netlink.Route, error) { return in.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("its routes: %w", err)
	}
	for _, e := range s.Endpoints {
		i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == e.Interface })
		if i < 0 {
			words = append(words, fmt.Sprintf("interface %s is missing", e.Interface))
			continue
		}
		l := links[i].Attrs()
		if l.Flags&net.FlagUp == 0 {
			words = append(words, fmt.Sprintf("interface %s is down", e.Interface))
		}
		for _, want := range []netip.Prefix{e.IPv4, e.IPv6} {
			has := func(a netlink.Addr) bool { return a.LinkIndex == l.Index && a.IPNet.String() == want.String() }
			if want.IsValid() && !slices.ContainsFunc(addrs, has) {
				words = append(words, fmt.Sprintf("interface %s lacks its address %s", e.Interface, want))
			}
		}
		for _, gateway := range defaultRoutes(networks[e.Network], e) {
			has := func(r netlink.Route) bool {
				return r.LinkIndex == l.Index && r.Gw.Equal(gateway.AsSlice()) && isDefault(r)
			}
			if !slices.ContainsFunc(routes, has) {
				words = append(words, fmt.Sprintf("interface %s lacks the default route by %s", e.Interface, gateway))
			}
		}
	}
	return words, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// defaultRoutes are the gateways by which an endpoint leads out.
func defaultRoutes(n netdriver.Network, e netdriver.Endpoint) (out []netip.Addr) {
	if !e.Gateway || n.Internal {
		return nil
	}
	for _, s := range n.Subnets {
		for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
			if s.Gateway.IsValid() && s.Prefix.Contains(p.Addr()) {
				out = append(out, s.Gateway)
			}
		}
	}
	return out
}
