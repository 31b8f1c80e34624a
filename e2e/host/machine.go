package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what `docker run --privileged` would give: namespaces of its own for processes, mounts, network, names and
// cgroups over the real kernel and the real file system. All of it dies with its first process, and that one dies with the
// test program, so a killed test leaves nothing but an empty cgroup.
type Machine struct {
	PID     int // of its first process
	cgroups []string
	init    *exec.Cmd
	stdin   io.Closer

	mu      sync.Mutex
	started []*os.Process
}

// namespaces that every program of the machine enters.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP

// boot is the machine's first process: it waits to be put into its cgroup, makes the namespaces' mounts, says so, reaps
// orphans (bash does) and ends with its standard input. Programs live in the cgroup /init, so that on cgroup v2 the root
// may have children with controllers.
const boot = `
read -r _
exec unshare --cgroup bash -euc '
  mount --make-rprivate /
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /run
  hierarchies=$(while read -r _ _ _ _ point _ rest; do case "$rest" in
      *"- cgroup "*) echo "cgroup ${point##*/} ${rest##* }";; *"- cgroup2 "*) echo "cgroup2 .${point#/sys/fs/cgroup} -";;
    esac; done </proc/self/mountinfo)
  mount -t sysfs sysfs /sys
  case "$hierarchies" in
  *"cgroup "*) mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup ;;
  esac
  while read -r type name options; do
    mkdir -p /sys/fs/cgroup/$name
    case "$type" in
    cgroup) options=${options#rw,}; mount -t cgroup -o "${options#xattr,}" cgroup /sys/fs/cgroup/$name ;;
    cgroup2) mount -t cgroup2 cgroup2 /sys/fs/cgroup/$name ;;
    esac
  done <<<"$hierarchies"
  for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -e $root/cgroup.procs ] || continue
    mkdir -p $root/init
    if [ -e $root/init/cpuset.cpus ]; then
      cat $root/cpuset.cpus >$root/init/cpuset.cpus; cat $root/cpuset.mems >$root/init/cpuset.mems
    fi
    echo $$ >$root/init/cgroup.procs
  done
  ip link set lo up
  hostname machine
  echo booted
  while read -r _; do :; done'
`

// join puts a program into the machine's cgroup before it starts.
const join = `for c in /sys/fs/cgroup/init/cgroup.procs /sys/fs/cgroup/*/init/cgroup.procs; do
	[ -e "$c" ] && echo $$ >"$c"; done; exec "$@"`

var machines atomic.Int32

// Boot boots a machine. It needs root.
func Boot() (_ *Machine, err error) {
	m := &Machine{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("booting a machine (this needs root): %w", err), m.Stop())
		}
	}()
	if err := m.makeCgroups(fmt.Sprintf("stack-e2e-%d-%d", os.Getpid(), machines.Add(1))); err != nil {
		return nil, err
	}
	m.init = exec.Command("bash", "-euc", boot)
	m.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces &^ unix.CLONE_NEWCGROUP, Pdeathsig: syscall.SIGKILL}
	var complaints strings.Builder
	m.init.Stderr = &complaints
	in, err := m.init.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := m.init.StdoutPipe()
	if err != nil {
		return nil, err
	}
	m.stdin = in
	if err := startLasting(m.init); err != nil {
		m.init = nil
		return nil, err
	}
	m.PID = m.init.Process.Pid
	for _, dir := range m.cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(m.PID)), 0); err != nil {
			return nil, err
		}
	}
	fmt.Fprintln(in, "go")
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "booted\n" {
		return nil, fmt.Errorf("%q %w: %s", line, err, complaints.String())
	}
	return m, nil
}

// lasting starts processes from one thread that lives as long as the program: Pdeathsig means the death of that thread.
var lasting = func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
}()

func startLasting(cmd *exec.Cmd) error {
	done := make(chan error)
	lasting <- func() { done <- cmd.Start() }
	return <-done
}

// makeCgroups makes the machine's cgroup in every hierarchy.
func (m *Machine) makeCgroups(name string) error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		roots = []string{"/sys/fs/cgroup/cgroup.procs"} // cgroup v2 alone
	}
	for _, root := range roots {
		root = filepath.Dir(root)
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		m.cgroups = append(m.cgroups, dir)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // v1: empty until set
			if value, err := os.ReadFile(filepath.Join(root, file)); err == nil && !isV2(root) {
				if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func isV2(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.controllers"))
	return err == nil
}

// Start starts a program in the machine, in the background. Its pid in cmd is the caller's view. Stop kills it.
func (m *Machine) Start(cmd *exec.Cmd) error {
	cmd.Args = append([]string{"sh", "-c", join, "sh"}, cmd.Args...)
	cmd.Path, cmd.Err = "/bin/sh", nil
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			target, err := unix.PidfdOpen(m.PID, 0)
			if err != nil {
				return err
			}
			defer unix.Close(target)
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Setns(target, namespaces); err != nil {
				return fmt.Errorf("entering the machine: %w", err)
			}
			return cmd.Start()
		}()
	}()
	err := <-done
	if err == nil {
		m.mu.Lock()
		m.started = append(m.started, cmd.Process)
		m.mu.Unlock()
	}
	return err
}

// Stop ends the machine with all its processes, and removes its cgroups.
func (m *Machine) Stop() error {
	if m.init != nil {
		m.stdin.Close()
		m.init.Process.Kill()
		m.mu.Lock()
		for _, p := range m.started { // the first process ends after those that have been waited for
			p.Wait() // an error means that it was waited for already
		}
		m.mu.Unlock()
		m.init.Wait()
	}
	var errs []error
	for _, dir := range m.cgroups {
		errs = append(errs, removeCgroups(dir))
	}
	return errors.Join(errs...)
}

// removeCgroups removes a tree of cgroups. The kernel lets go of a dead process's cgroup a moment after its death.
func removeCgroups(dir string) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := removeTree(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func removeTree(dir string) error {
	children, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, child := range children {
		if child.IsDir() {
			if err := removeTree(filepath.Join(dir, child.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
