package server

import (
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// idMaps of a user namespace the shim has made.
//
// libcontainer reads the maps of a namespace it joins by path. Of a path like /proc/<pid>/fd/<n> it reads those of the
// process instead (runc 1.5.2, GetUserNamespaceMappings takes it for /proc/<pid>/ns/user), so it is told.
type idMaps struct{ uids, gids []shim.IDMap }

// mapsOf finds the maps of the user namespace that the bundle joins; nil when it is none of ours.
func (s *Server) mapsOf(spec *specs.Spec) *idMaps {
	for _, n := range spec.Linux.Namespaces {
		if n.Type != specs.UserNamespace || n.Path == "" {
			continue
		}
		s.mu.Lock()
		all := s.list()
		s.mu.Unlock()
		for _, c := range all {
			c.mu.Lock()
			maps, path := c.maps, fdPath(c.user)
			c.mu.Unlock()
			if path == n.Path {
				return &maps
			}
		}
	}
	return nil
}

// apply sets the maps, and what libcontainer derives from them.
func (m *idMaps) apply(config *configs.Config) {
	if m == nil {
		return
	}
	config.UIDMappings, config.GIDMappings = configMaps(m.uids), configMaps(m.gids)
	uid, uidErr := config.HostRootUID()
	gid, gidErr := config.HostRootGID()
	if uidErr != nil || gidErr != nil {
		return // libcontainer says so itself
	}
	for _, d := range config.Devices {
		d.Uid, d.Gid = uint32(uid), uint32(gid)
	}
}

func configMaps(maps []shim.IDMap) []configs.IDMap {
	out := make([]configs.IDMap, len(maps))
	for i, m := range maps {
		out[i] = configs.IDMap{ContainerID: int64(m.Container), HostID: int64(m.Host), Size: int64(m.Size)}
	}
	return out
}
