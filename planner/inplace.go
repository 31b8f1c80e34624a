package planner

import (
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

// needsContainer tells whether a difference can't be made up for in place.
func needsContainer(ch spec.Change, old, new *spec.Service) bool {
	f := field(ch)
	switch {
	case !changedInPlace[f]:
		return true
	case f == "resources":
		return needsCgroup(ch)
	case f == "logging":
		return logDriver(old) != logDriver(new) // another format, or another place
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
func inPlace(old, new *spec.Service) []spec.Change {
	if sameSpec(old, new) {
		return nil
	}
	var changes []spec.Change
	for _, ch := range spec.Diff(old, new) {
		if !ignored[field(ch)] && !needsContainer(ch, old, new) {
			changes = append(changes, ch)
		}
	}
	return changes
}
