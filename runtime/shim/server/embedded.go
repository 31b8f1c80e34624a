package server

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	_ "github.com/opencontainers/cgroups/devices" // device rules
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

// embedded runs a container by libcontainer in this process.
type embedded struct {
	container *libcontainer.Container
	embeddedChild
}

// embeddedChild is a process libcontainer started.
type embeddedChild struct{ process *libcontainer.Process }

// startEmbedded creates the container and executes its program.
func startEmbedded(root, id string, spec *specs.Spec, maps *idMaps, io *stdio) (engine, error) {
	if maps != nil {
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec})
	if err != nil {
		return nil, shimError(shim.CodeInvalid, "%v", err)
	}
	maps.apply(config)
	config.Seccomp = internSeccomp(config.Seccomp)
	process, err := newProcess(spec.Process, io)
	if err != nil {
		return nil, err
	}
	process.Init = true
	c, err := libcontainer.Create(root, id, config)
	if err != nil {
		return nil, withCode(err)
	}
	e := &embedded{container: c, embeddedChild: embeddedChild{process}}
	if err := c.Run(process); err != nil {
		// libcontainer writes state.json when everything is prepared; what fails later is about the program.
		_, prepared := os.Stat(filepath.Join(root, id, "state.json"))
		if prepared == nil {
			if code := findCommand(spec.Root.Path, spec.Mounts, spec.Process); code != "" {
				err = commandError(code, spec.Process.Args[0])
			}
		}
		e.abandon(filepath.Join(root, id))
		return nil, withCode(err)
	}
	return e, nil
}

// abandon takes back what a failed start has left; libcontainer has taken most of it back itself.
func (e *embedded) abandon(stateDir string) {
	if pid, err := e.process.Pid(); err == nil && pid > 0 {
		_ = e.process.Signal(syscall.SIGKILL)
		_, _ = e.process.Wait()
	}
	_ = e.container.Destroy()
	if err := os.RemoveAll(stateDir); err != nil {
		logf("%v", err)
	}
}

// withCode makes an error of libcontainer one that the container's bundle is to blame for, unless the disk is full.
func withCode(err error) error {
	var e *shim.Error
	if errors.As(err, &e) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return &shim.Error{Code: shim.CodeInvalid, Message: err.Error()}
}

func (e embeddedChild) pid() int {
	pid, err := e.process.Pid()
	if err != nil {
		return 0
	}
	return pid
}

func (e embeddedChild) reap() (syscall.WaitStatus, error) {
	state, err := e.process.Wait()
	if state == nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return 0, fmt.Errorf("wait: %w", err)
	}
	return state.Sys().(syscall.WaitStatus), nil
}

func (e *embedded) signal(sig syscall.Signal) error {
	err := e.process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (e *embedded) exec(p *specs.Process, io *stdio) (child, error) {
	process, err := newProcess(p, io)
	if err != nil {
		return nil, err
	}
	if err := e.container.Run(process); err != nil {
		return nil, withCode(err)
	}
	return embeddedChild{process}, nil
}

func (e *embedded) destroy() error { return e.container.Destroy() }

// newProcess turns a process of the OCI specification into one of libcontainer.
func newProcess(p *specs.Process, io *stdio) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd,
		UID: int(p.User.UID), GID: int(p.User.GID),
		Label: p.SelinuxLabel, AppArmorProfile: p.ApparmorProfile, NoNewPrivileges: &p.NoNewPrivileges,
		Scheduler: p.Scheduler, IOPriority: p.IOPriority,
		ConsoleSocket: io.socket,
	}
	if !p.Terminal {
		lp.Stdin, lp.Stdout, lp.Stderr = io.child[0], io.child[1], io.child[2]
	}
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	for _, gid := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(gid))
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, l := range p.Rlimits {
		n, ok := rlimits[l.Type]
		if !ok {
			return nil, shimError(shim.CodeInvalid, "rlimit %s is not known", l.Type)
		}
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: n, Hard: l.Hard, Soft: l.Soft})
	}
	affinity, err := configs.ConvertCPUAffinity(p.ExecCPUAffinity)
	if err != nil {
		return nil, shimError(shim.CodeInvalid, "%v", err)
	}
	lp.CPUAffinity = affinity
	return lp, nil
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}
