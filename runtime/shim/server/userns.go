package server

import (
	"errors"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

// idMaps of a user namespace the shim has made.
//
// libcontainer reads the maps of a namespace it joins by path. Of a path like /proc/<pid>/fd/<n> it reads those of the
// process instead (runc 1.5.2, GetUserNamespaceMappings takes it for /proc/<pid>/ns/user), so it is told.
type idMaps struct{ uids, gids []shim.IDMap }

// mapsOf finds the maps of the user namespace that the bundle joins, which is that of a sandbox or of a running container;
// nil when it joins none.
func (s *Server) mapsOf(spec *specs.Spec) (*idMaps, error) {
	path := namespacePath(spec, specs.UserNamespace)
	if path == "" {
		return nil, nil
	}
	s.mu.Lock()
	all := s.list()
	s.mu.Unlock()
	for _, c := range all {
		c.mu.Lock()
		maps, own := c.maps, fdPath(c.user)
		c.mu.Unlock()
		if own == path {
			return &maps, nil
		}
	}
	process, ok := strings.CutSuffix(path, "/ns/user")
	if !ok {
		return nil, shimError(shim.CodeInvalid, "user namespace %s is that of no sandbox and no process", path)
	}
	uids, uidErr := readMaps(process + "/uid_map")
	gids, gidErr := readMaps(process + "/gid_map")
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, shimError(shim.CodeInvalid, "user namespace: %v", err)
	}
	return &idMaps{uids, gids}, nil
}

func readMaps(path string) ([]shim.IDMap, error) {
	list, err := user.ParseIDMapFile(path)
	maps := make([]shim.IDMap, len(list))
	for i, m := range list {
		maps[i] = shim.IDMap{Container: uint32(m.ID), Host: uint32(m.ParentID), Size: uint32(m.Count)}
	}
	return maps, err
}

// root is the host's id of the namespace's root.
func root(maps []shim.IDMap) (int, bool) {
	for _, m := range maps {
		if m.Container == 0 && m.Size > 0 {
			return int(m.Host), true
		}
	}
	return 0, false
}

// give makes the namespace's root the owner of the pipes among a process's standard streams, so that programs can open
// them anew (/dev/stdout). Whatever else is there belongs to somebody.
func (m *idMaps) give(files [3]*os.File) error {
	if m == nil {
		return nil
	}
	uid, ok := root(m.uids)
	gid, gidOK := root(m.gids)
	if !ok || !gidOK {
		return nil
	}
	for _, f := range files {
		if f == nil {
			continue
		}
		var at unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &at); err != nil || at.Type != unix.PIPEFS_MAGIC {
			continue
		}
		if err := unix.Fchown(int(f.Fd()), uid, gid); err != nil {
			return os.NewSyscallError("fchown", err)
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
	uid, ok := root(m.uids)
	gid, gidOK := root(m.gids)
	if !ok || !gidOK {
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
