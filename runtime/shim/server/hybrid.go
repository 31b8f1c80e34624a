package server

import (
	"bytes"
	"os"
	"os/exec"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// On a host with cgroup v1 whose unified hierarchy has controllers too (hybrid mode), crun refuses to work. It can't do
// anything with that hierarchy anyway: it gets to see it without controllers, in a mount namespace of its own.

const unifiedControllers = "/sys/fs/cgroup/unified/cgroup.controllers"

var hybrid = sync.OnceValue(func() bool {
	if cgroups.IsCgroup2UnifiedMode() {
		return false
	}
	data, err := os.ReadFile(unifiedControllers)
	return err == nil && len(bytes.TrimSpace(data)) > 0
})

// startUnified starts a runtime program so that it sees one kind of cgroups only.
func startUnified(cmd *exec.Cmd) error {
	if !hybrid() {
		return cmd.Start()
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return os.NewSyscallError("mount", err)
		}
		if err := unix.Mount(os.DevNull, unifiedControllers, "", unix.MS_BIND, ""); err != nil {
			return os.NewSyscallError("mount", err)
		}
		return cmd.Start() // forks from this thread
	})
}
