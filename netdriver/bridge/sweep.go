package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/dump"
)

// portsOf picks the ports of this package's making on bridges out of all links.
func portsOf(links []netlink.Link, bridges map[int]bool) (names []string) {
	for _, l := range links {
		if bridges[l.Attrs().MasterIndex] && l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, portPrefix) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// Sweep implements netdriver.Sweeper: it removes bridges that carry this daemon's mark but belong to no network, and
// ports on its bridges that belong to no endpoint.
func (d *Driver) Sweep(_ context.Context, networks []netdriver.Network, endpoints []netdriver.Endpoint) error {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	wantedLinks, wantedPorts := map[string]bool{}, map[string]bool{}
	for _, n := range networks {
		wantedLinks[d.linkName(n)] = true
	}
	for _, e := range endpoints {
		wantedPorts[d.portName(e.Network, e.ContainerID)] = true
	}
	ours := map[int]bool{}
	for _, l := range links {
		if l.Type() != "bridge" || l.Attrs().Alias != d.owner() && !wantedLinks[l.Attrs().Name] {
			continue
		}
		ours[l.Attrs().Index] = true
	}
	stray := slices.DeleteFunc(portsOf(links, ours), func(name string) bool { return wantedPorts[name] })
	if err := deletePorts(stray); err != nil {
		return err
	}
	for _, l := range links {
		if ours[l.Attrs().Index] && !wantedLinks[l.Attrs().Name] {
			if err := deleteLink(l); err != nil {
				return err
			}
		}
	}
	entered, err := d.fw.Networks()
	if err != nil {
		return err
	}
	var gone []string
	for _, n := range entered {
		if !wantedLinks[n.Link] {
			gone = append(gone, n.Link)
		}
	}
	if len(gone) == 0 && len(entered) > 0 {
		return nil
	}
	return d.fw.RemoveNetworks(gone...)
}
