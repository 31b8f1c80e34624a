package planner

import (
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// What a difference between a service and what its container was made from means. The attributes below, as spec.Diff
// names them, are changed under the running container; those of ignored say nothing about a container. All others need a
// new one.
var (
	changedInPlace = map[string]bool{
		"labels": true, "restart": true, "healthcheck": true, "stop_signal": true, "stop_grace_period": true, "pre_stop": true, "depends_on": true,
		"x-stack": true, // acted on by the daemon, which reads it in the record
		"expose":  true, "resources": true, "logging": true,
		"networks": true, "ports": true, "dns": true, "dns_search": true, "dns_opt": true, "extra_hosts": true,
	}
	ignored = map[string]bool{
		"replicas": true, "pull_policy": true, "pull_age": true, "profiles": true, "attach": true, "position": true,
		"update_config": true, "rollback_config": true, "develop": true,
		"one_shot": true,
	}
)

// stays are limits that cgroups can't be rid of once they are set: they change in place, and go with the container.
var stays = map[string]bool{
	"mem_swappiness": true, "cpu_rt_runtime": true, "cpu_rt_period": true, "blkio_weight": true, "blkio_weight_device": true,
	"device_read_bps": true, "device_read_iops": true, "device_write_bps": true, "device_write_iops": true,
}

// needsContainer tells whether a difference between a container and its service can't be made up for in place.
func (u *up) needsContainer(s *course, c *Container, ch spec.Change) bool {
	old, new := &c.Spec, s.Service
	f := field(ch)
	switch {
	case !changedInPlace[f]:
		return true
	case f == "resources":
		return needsCgroup(ch)
	case f == "logging":
		return logDriver(old) != logDriver(new) // another format, or another place
	case f == "networks":
		return u.needsNetworks(ch, old, new)
	case f == "ports":
		return !ownNetwork(old) || !ownNetwork(new) || u.portsTaken(s, c)
	case f == "dns" || f == "dns_search" || f == "dns_opt" || f == "extra_hosts":
		return !ownNetwork(old) || !ownNetwork(new) // else the files are another's, or the host's
	}
	return false
}

// ownNetwork tells whether the service's containers have networks of their own.
func ownNetwork(s *spec.Service) bool {
	return s.NetworkMode == "" && len(s.Networks) > 0 || s.NetworkMode == "bridge"
}

// needsNetworks tells whether a difference in networks can't be made up for by attaching, detaching and renaming: a running
// container keeps its addresses and the names of its interfaces, and the way out that it has.
func (u *up) needsNetworks(ch spec.Change, old, new *spec.Service) bool {
	if !ownNetwork(old) || !ownNetwork(new) {
		return true
	}
	key, attribute := networkOf(ch, old, new)
	was, had := old.Networks[key]
	is, has := new.Networks[key]
	switch {
	case had && has:
		return !strings.HasPrefix(attribute, "aliases")
	case has && is != nil && is.GwPriority != 0, had && was != nil && was.GwPriority != 0:
		return true
	}
	n := u.desired.Networks[key]
	return n != nil && (&netCourse{Network: n}).builtin()
}

// networkOf splits "networks.front.aliases" after the network, whose name may have dots.
func networkOf(ch spec.Change, old, new *spec.Service) (key, attribute string) {
	path := strings.TrimPrefix(ch.Path, "networks.")
	for _, networks := range []map[string]*spec.Attachment{old.Networks, new.Networks} {
		for k := range networks {
			rest, ok := strings.CutPrefix(path, k)
			if ok && len(k) > len(key) && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				key, attribute = k, strings.TrimPrefix(rest, ".")
			}
		}
	}
	return key, attribute
}

// portsTaken tells whether a container of another service has a host port that this one is to get: then the plan hands it
// over, between a stop and a start.
func (u *up) portsTaken(s *course, c *Container) bool {
	had := map[string]bool{}
	for _, claim := range portClaims(&c.Spec) {
		had[claim] = true
	}
	for _, claim := range portClaims(s.Service) {
		if had[claim] {
			continue
		}
		for i := range u.observed.Containers {
			if other := &u.observed.Containers[i]; other.Service != s.Name && slices.Contains(portClaims(&other.Spec), claim) {
				return true
			}
		}
	}
	return false
}

// needsCgroup tells whether a limit goes away that only a new cgroup is free of, or moves to another device.
func needsCgroup(ch spec.Change) bool {
	limit := strings.TrimPrefix(ch.Path, "resources.")
	name := limit
	if i := strings.IndexAny(limit, ".["); i >= 0 {
		name = limit[:i]
	}
	return stays[name] && (ch.New == "" || strings.HasSuffix(limit, ".path"))
}

// logDriver is the one that keeps the service's log.
func logDriver(s *spec.Service) string {
	if s.Logging == nil || s.Logging.Driver == "" {
		return "json-file"
	}
	return s.Logging.Driver
}

// inPlace lists the differences that are made up for without a new container.
func (u *up) inPlace(s *course, c *Container) []spec.Change {
	if u.sameSpec(s, c) {
		return nil
	}
	var changes []spec.Change
	for _, ch := range spec.Diff(&c.Spec, s.Service) {
		if !ignored[field(ch)] && !u.needsContainer(s, c, ch) {
			changes = append(changes, ch)
		}
	}
	return changes
}
