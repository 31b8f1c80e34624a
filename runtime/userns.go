package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// userns_mode: auto gives a container ids of its own: container ids 0..65535 are host ids from usernsBase on. All such
// containers of a host share the range, as with Docker's userns-remap; they are kept apart by everything else.
const (
	usernsBase = 1 << 20
	usernsSize = 1 << 16
)

func (e *Engine) idMaps(r *Record) (uids, gids []specs.LinuxIDMapping) {
	if r.Spec.UsernsMode != "auto" {
		return nil, nil
	}
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: usernsBase, Size: usernsSize}}
	return m, m
}

func shimMaps(maps []specs.LinuxIDMapping) []shim.IDMap {
	var out []shim.IDMap
	for _, m := range maps {
		out = append(out, shim.IDMap{Container: m.ContainerID, Host: m.HostID, Size: m.Size})
	}
	return out
}
