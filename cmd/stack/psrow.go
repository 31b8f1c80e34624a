package main

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

// psRow is one container as `docker compose ps --format json` has it.
type psRow struct {
	Command      string
	CreatedAt    string
	ExitCode     int
	Health       string
	ID           string
	Image        string
	Labels       string
	LocalVolumes string
	Mounts       string
	Name         string
	Names        string
	Networks     string
	Ports        string
	Project      string
	Publishers   []publisher
	RunningFor   string
	Service      string
	Size         string
	State        string
	Status       string
}

// publisher is one published port.
type publisher struct {
	URL           string
	TargetPort    int
	PublishedPort int
	Protocol      string
}

const (
	shortID      = 12
	shortCommand = 20
)

func newPsRow(c api.Container, now time.Time, full bool) psRow {
	id, command := c.ID, c.Command
	if !full {
		id = id[:min(len(id), shortID)]
		command = ellipsis(command, shortCommand)
	}
	r := psRow{
		Command:      strconv.Quote(command),
		CreatedAt:    c.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		ExitCode:     c.ExitCode,
		Health:       c.Health,
		ID:           id,
		Image:        c.Image,
		Labels:       labels(c.Labels),
		LocalVolumes: strconv.Itoa(len(c.Mounts)),
		Mounts:       strings.Join(c.Mounts, ","),
		Name:         c.Name,
		Names:        c.Name,
		Networks:     strings.Join(slices.Sorted(maps.Keys(c.Networks)), ","),
		Ports:        ports(c.Ports),
		Project:      c.Stack,
		Publishers:   []publisher{},
		RunningFor:   units.HumanDuration(now.Sub(c.Created)) + " ago",
		Service:      c.Service,
		Size:         "0B",
		State:        shownState(c),
		Status:       containerStatus(c, now),
	}
	for _, p := range sortedPorts(c.Ports) {
		r.Publishers = append(r.Publishers, publisher{URL: p.HostIP, TargetPort: p.Target, PublishedPort: p.Published, Protocol: p.Protocol})
	}
	return r
}

// containerStatus is a container's state with its times, in Docker's words.
func containerStatus(c api.Container, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch c.State {
	case planner.Running, planner.Paused:
		text := "Up " + since(c.Started)
		switch {
		case c.State == planner.Paused:
			text += " (Paused)"
		case c.Health == planner.Starting:
			text += " (health: starting)"
		case c.Health != "":
			text += " (" + c.Health + ")"
		}
		return text
	case planner.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.ExitCode, since(c.Finished))
	case planner.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, since(c.Finished))
	case planner.Created:
		return "Created"
	default:
		return "Dead"
	}
}

func ellipsis(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:width-1]) + "…"
}

func labels(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, key+"="+m[key])
	}
	return strings.Join(pairs, ",")
}

func sortedPorts(ports []api.PublishedPort) []api.PublishedPort {
	return slices.SortedFunc(slices.Values(ports), func(a, b api.PublishedPort) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), strings.Compare(a.HostIP, b.HostIP), cmp.Compare(a.Published, b.Published), strings.Compare(a.Protocol, b.Protocol))
	})
}

// ports is the PORTS column, as Docker writes it: first those with the same number on both sides, joined to ranges, then
// those that are only exposed, then the others one by one.
func ports(all []api.PublishedPort) string {
	var same, exposed, mapped []string
	ranges := map[string]*portRange{} // by address and protocol
	var order []*portRange
	for _, p := range sortedPorts(all) {
		if p.Published != 0 && p.Published != p.Target {
			mapped = append(mapped, (&portRange{p, p.Target}).String())
			continue
		}
		key := p.HostIP + "/" + p.Protocol
		if r := ranges[key]; r != nil && p.Target <= r.last+1 {
			r.last = p.Target
			continue
		}
		ranges[key] = &portRange{p, p.Target}
		order = append(order, ranges[key])
	}
	for _, r := range order {
		if r.first.Published == 0 {
			exposed = append(exposed, r.String())
		} else {
			same = append(same, r.String())
		}
	}
	return strings.Join(slices.Concat(same, exposed, mapped), ", ")
}

// portRange are neighbouring ports of one address.
type portRange struct {
	first api.PublishedPort
	last  int // target port
}

func (r *portRange) String() string {
	target := span(r.first.Target, r.last) + "/" + r.first.Protocol
	if r.first.Published == 0 {
		return target
	}
	published := span(r.first.Published, r.first.Published+r.last-r.first.Target)
	return net.JoinHostPort(r.first.HostIP, published) + "->" + target
}

func span(first, last int) string {
	if first == last {
		return strconv.Itoa(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
