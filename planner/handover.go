package planner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stack-run/stack/spec"
)

// handover is something of which there is one only (a container name, a host port, a static address) that one
// container gives up and another, of another replica or service, takes.
type handover struct {
	from, to *fate
	// name says that it is held until the container is removed, and needed when the other is created. Ports and
	// addresses are held while a container runs.
	name bool
}

// findHandovers matches what containers that go give up with what new ones take. Those that give something up stop
// early: waiting for what the taker's dependents need could mean to wait for the taker.
func (u *up) findHandovers() {
	givers := map[string][]*fate{}
	for _, f := range u.leaving() {
		for _, claim := range u.claims(&f.old.Spec, f.old.Name) {
			givers[claim] = append(givers[claim], f)
		}
	}
	u.findUpdatedPorts(givers)
	if len(givers) == 0 {
		return
	}
	for _, name := range u.graph.order {
		s := u.services[name]
		for _, f := range s.fates {
			if f.what != create && f.what != replace && !(f.what == keep && f.start) {
				continue
			}
			for _, claim := range u.claims(s.Service, s.ContainerNameOf(u.desired.Name, f.replica)) {
				for _, from := range givers[claim] {
					// Replicas of one service share its claims: ports, and what each keeps that is replaced.
					sibling := from.old.Service == s.Name && (from.what == replace || strings.HasPrefix(claim, portClaim))
					if from != f && !sibling {
						from.early = true
						u.handovers = append(u.handovers, handover{from: from, to: f, name: strings.HasPrefix(claim, nameClaim)})
					}
				}
			}
		}
	}
}

// findUpdatedPorts adds the containers that stay and give up host ports in place.
func (u *up) findUpdatedPorts(givers map[string][]*fate) {
	for _, name := range u.graph.order {
		s := u.services[name]
		for _, f := range s.fates {
			if !slices.ContainsFunc(f.update, func(ch spec.Change) bool { return field(ch) == "ports" }) {
				continue
			}
			kept := portClaims(s.Service)
			for _, claim := range portClaims(&f.old.Spec) {
				if !slices.Contains(kept, claim) {
					givers[claim] = append(givers[claim], f)
				}
			}
		}
	}
}

// leaving are the fates whose containers go.
func (u *up) leaving() []*fate {
	var leaving []*fate
	for _, f := range u.allFates() {
		if f.what == replace || f.what == discard {
			leaving = append(leaving, f)
		}
	}
	return leaving
}

func (u *up) linkHandovers() {
	for _, h := range u.handovers {
		switch {
		case h.name && h.to.renameID != none:
			u.after(h.to.renameID, h.from.removeID)
		case h.name:
			u.after(h.to.createID, h.from.removeID)
		default:
			u.after(h.to.startID, h.from.stopID, h.from.updateID)
		}
	}
}

const (
	nameClaim = "name "
	portClaim = "port "
)

// claims are the things a container of the service holds that no other container can have at the same time. Host
// addresses of ports are left out: at worst, two containers are put in an order that they didn't need.
func (u *up) claims(s *spec.Service, name string) []string {
	claims := []string{nameClaim + name}
	claims = append(claims, portClaims(s)...)
	for key, attachment := range s.Networks {
		if attachment == nil {
			continue
		}
		for _, address := range []string{attachment.IPv4, attachment.IPv6} {
			if address != "" {
				claims = append(claims, fmt.Sprintf("address %s on %s", address, key))
			}
		}
	}
	return claims
}

// portClaims are the host ports that a service's containers hold.
func portClaims(s *spec.Service) (claims []string) {
	for _, p := range s.Ports {
		for _, port := range hostPorts(p.Published) {
			claims = append(claims, fmt.Sprintf(portClaim+"%d/%s", port, p.Protocol))
		}
	}
	return claims
}

// hostPorts are the ports of "8080" or "8000-8010"; none where the host chooses.
func hostPorts(published string) []int {
	first, last, isRange := strings.Cut(published, "-")
	low, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return nil
	}
	high := low
	if isRange {
		if high, err = strconv.ParseUint(last, 10, 16); err != nil {
			return nil
		}
	}
	var ports []int
	for port := low; port <= high; port++ {
		ports = append(ports, int(port))
	}
	return ports
}
