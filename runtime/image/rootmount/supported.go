package rootmount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Supported tells whether MountMapped can work with what lies on dir's filesystem, by trying it; ErrMapped if not. For the time
// of the call there is a folder in dir.
func Supported(dir string) error {
	probe := filepath.Join(dir, ".mapped")
	a, b := filepath.Join(probe, "a"), filepath.Join(probe, "b")
	defer os.RemoveAll(probe)
	for _, d := range []string{a, b} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	userns, err := userNamespace(1)
	if err != nil {
		return fmt.Errorf("%w: no user namespace: %w", ErrMapped, err)
	}
	defer userns.Close()
	r := parse("overlay", "overlay", b, []string{"ro", "lowerdir=" + escape(a) + ":" + escape(b)})
	tree, err := r.overlayMapped(int(userns.Fd()))
	if err != nil {
		return err
	}
	return syscall.Close(tree)
}

// escape writes a path as an overlay's lowerdir has it.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(path)
}

// userNamespace makes one with so many ids, by a process that is stopped before it has run a single instruction of its program.
func userNamespace(ids int) (*os.File, error) {
	runtime.LockOSThread() // the tracer of the process is this thread
	defer runtime.UnlockOSThread()
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1 << 20, Size: ids}}
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps, Ptrace: true,
	}})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	killed := p.Kill()
	_, waited := p.Wait()
	return f, errors.Join(err, killed, waited)
}
