package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

// sandbox makes the container's namespaces unless it has them. The shim keeps them as open files: they need no mount, and
// are gone with the shim.
func (s *Server) sandbox(r shim.SandboxRequest) (shim.SandboxReply, error) {
	c, err := s.findOrAdd(r.ID)
	if err != nil {
		return shim.SandboxReply{}, err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if c.net == nil && !r.HostNetwork || c.user == nil && len(r.UIDs) > 0 {
		net, user, err := makeNamespaces(r)
		if err != nil {
			return shim.SandboxReply{}, fmt.Errorf("sandbox of %s: %w", r.ID, err)
		}
		c.mu.Lock()
		c.net, c.user, c.maps = net, user, idMaps{r.UIDs, r.GIDs}
		c.state.Netns = fdPath(net)
		c.publish(shim.KindState)
		c.mu.Unlock()
	}
	return shim.SandboxReply{Netns: fdPath(c.net), Userns: fdPath(c.user)}, nil
}

// fdPath names an open file of this process for others; "" for none.
func fdPath(f *os.File) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

func makeNamespaces(r shim.SandboxRequest) (net, user *os.File, err error) {
	if len(r.UIDs) > 0 {
		return makeUserNamespace(r)
	}
	err = onThread(func() error {
		// The thread ends with the function: nothing else ever runs in the new namespace.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return setSysctls(r.Sysctls)
	})
	if err != nil && net != nil {
		net.Close()
		net = nil
	}
	return net, nil, err
}

// makeUserNamespace lets a child of this program live in new namespaces just long enough to take hold of them.
func makeUserNamespace(r shim.SandboxRequest) (net, user *os.File, err error) {
	held, child, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer child.Close()
	cmd := exec.Command("/proc/self/exe", "hold")
	cmd.Stdin = held
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: sysMaps(r.UIDs), GidMappings: sysMaps(r.GIDs), GidMappingsEnableSetgroups: true,
		Pdeathsig: 0,
	}
	if !r.HostNetwork {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	err = cmd.Start()
	held.Close()
	if err != nil {
		return nil, nil, shimError(shim.CodeInvalid, "user namespace: %v", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if user, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid)); err != nil {
		return nil, nil, err
	}
	if r.HostNetwork {
		return nil, user, nil
	}
	if net, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err == nil {
		err = onThread(func() error {
			if err := unix.Setns(int(net.Fd()), unix.CLONE_NEWNET); err != nil {
				return os.NewSyscallError("setns", err)
			}
			return setSysctls(r.Sysctls)
		})
	}
	if err != nil {
		user.Close()
		if net != nil {
			net.Close()
		}
		return nil, nil, err
	}
	return net, user, nil
}

func sysMaps(maps []shim.IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Size)}
	}
	return out
}

// setSysctls writes net.* of the calling thread's network namespace.
func setSysctls(sysctls map[string]string) error {
	for name, value := range sysctls {
		path, ok := sysctlPath(name)
		if !ok || !strings.HasPrefix(path, "/proc/sys/net/") {
			return shimError(shim.CodeInvalid, "sysctl %s does not belong to a network namespace", name)
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return shimError(shim.CodeInvalid, "sysctl %s=%s: %v", name, value, err)
		}
	}
	return nil
}

// sysctlPath turns a name, with dots or slashes between its parts as sysctl(8) has it, into its file.
func sysctlPath(name string) (string, bool) {
	if first := strings.IndexAny(name, "./"); first >= 0 && name[first] == '.' {
		name = strings.NewReplacer(".", "/", "/", ".").Replace(name)
	}
	path := filepath.Join("/proc/sys", name)
	return path, strings.HasPrefix(path, "/proc/sys/")
}

// onThread runs f on a thread that ends with it, so that f may change the thread's namespaces. That is any but the process's
// first one, which Go never ends: it would keep the namespaces, and /proc/self would show them.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f) // on another one, as this is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked
	}()
	return <-done
}
