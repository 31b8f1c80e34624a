package place

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Owner is who the files in a container belong to, in the host's ids.
type Owner struct{ UID, GID int }

// do runs f on a thread that makes files as the owner, and may do all that root may. What is made belongs to the owner
// from its first moment on, and a file system of a user namespace, where the host's root has no id, can be written to at
// all.
func (o Owner) do(f func() error) error {
	if o == (Owner{}) {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and what was changed of it with the thread.
		runtime.LockOSThread()
		if err := o.become(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (o Owner) become() error {
	if err := unix.Setfsgid(o.GID); err != nil {
		return fmt.Errorf("act as group %d: %w", o.GID, err)
	}
	if err := unix.Setfsuid(o.UID); err != nil {
		return fmt.Errorf("act as user %d: %w", o.UID, err)
	}
	// The kernel took the rights over files away with the id.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("act as user %d: %w", o.UID, err)
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("act as user %d: %w", o.UID, err)
	}
	return nil
}
