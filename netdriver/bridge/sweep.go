package bridge

import (
	"context"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
)

// ports lists the veth ends of this package's making on a bridge.
func (d *Driver) ports(bridge int) ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var out []netlink.Link
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge && l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, portPrefix) {
			out = append(out, l)
		}
	}
	return out, nil
}

// Sweep implements netdriver.Sweeper: it removes bridges that carry this daemon's mark but belong to no network, and
// ports on its bridges that belong to no endpoint.
func (d *Driver) Sweep(_ context.Context, networks []netdriver.Network, endpoints []netdriver.Endpoint) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	wantedLinks, wantedPorts := map[string]bool{}, map[string]bool{}
	for _, n := range networks {
		wantedLinks[n.Link] = true
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
	for _, l := range links {
		if ours[l.Attrs().MasterIndex] && strings.HasPrefix(l.Attrs().Name, portPrefix) && !wantedPorts[l.Attrs().Name] {
			if err := deleteLink(l); err != nil {
				return err
			}
		}
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
