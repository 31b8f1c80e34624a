// Package netns runs code inside network namespaces.
//
// A network namespace belongs to a thread, not to a process. Everything here runs on a goroutine locked to a thread which
// is put back into its own namespace afterwards, or thrown away when that fails, so that no other goroutine is ever run in
// a wrong one. Sockets opened inside stay in the namespace whoever uses them later: open inside, use outside.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs fn in the namespace at path (such as /proc/<pid>/fd/<n>). fn must not start goroutines that count on the
// namespace. Errors of entering wrap the system's error (fs.ErrNotExist when the namespace's owner is gone).
func Do(path string, fn func() error) error {
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer target.Close()
	return DoFile(target, fn)
}

// DoFile is Do for a namespace that is already open.
func DoFile(target *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = fn()
		// A goroutine that ends while locked takes its thread with it: the way out when going home fails.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
