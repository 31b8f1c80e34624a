package voldriver

import (
	"context"
	"fmt"
)

// Adopter is a Backend that can bring back what somebody unmounted from processes that still have it mounted. Mounted anew, a
// tmpfs would be an empty one beside theirs, and a file system in a file would be written to by two.
type Adopter interface {
	// Identify tells what is mounted at the Mountpoint; zero where nothing is, or where mounting it anew gives the same.
	Identify(Volume) Identity
	// Adopt mounts at the Mountpoint what one of the processes has mounted, if it is what was there, and tells whether it did.
	Adopt(v Volume, what Identity, pids []int) (bool, error)
}

// Identity tells file systems that are mounted apart: by their roots.
type Identity struct{ Device, Inode uint64 }

// attach has the data at the Mountpoint. It is called with the volume locked.
func (s *Store) attach(ctx context.Context, backend Backend, v Volume, st *state) error {
	adopter, ok := backend.(Adopter)
	if ok && st.data != (Identity{}) {
		if _, err := adopter.Adopt(v, st.data, s.processes(st)); err != nil {
			return fmt.Errorf("bring back what its containers have mounted: %w", err)
		}
	}
	err := backend.Attach(ctx, v)
	if ok && err == nil {
		st.data = adopter.Identify(v)
	}
	return err
}

// processes are those of the users that have some.
func (s *Store) processes(st *state) (pids []int) {
	if s.Process == nil {
		return nil
	}
	for _, user := range st.names() {
		if pid := s.Process(user); pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
