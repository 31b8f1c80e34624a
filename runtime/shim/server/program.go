package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/runtime/shim/internal/wire"
)

// program runs a container by an OCI runtime's command line (crun, runc, ...). Its processes are adopted by the shim,
// which is a subreaper, when the program has ended.
type program struct {
	path   string
	args   []string // before the command
	id     string
	dir    string // for the files of one call
	bundle string
	cgroup cgroups.Manager
	// children keeps the reaper off the program's own process while it runs.
	children *reaper
	adopted
}

// adopted is a process that a runtime program left to the shim.
type adopted struct{ process *os.Process }

func (a adopted) pid() int { return a.process.Pid }

func (a adopted) reap() (syscall.WaitStatus, error) {
	state, err := a.process.Wait()
	if err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	return state.Sys().(syscall.WaitStatus), nil
}

// programTimeout ends a runtime program that hangs.
const programTimeout = 2 * time.Minute

func programArgs(args []string, root string) []string {
	return append(append([]string{}, args...), "--root", root)
}

// startProgram creates and starts a container by the runtime program of the request.
func (s *Server) startProgram(v shim.StartRequest, spec *specs.Spec, std *stdio) (_ engine, err error) {
	if err := s.children.start(); err != nil {
		return nil, err
	}
	cg, err := cgroupOf(v.ID, spec)
	if err != nil {
		return nil, err
	}
	p := &program{
		path: v.Runtime, args: programArgs(v.RuntimeArgs, s.programDir()), id: v.ID,
		dir: filepath.Join(s.programDir(), v.ID+".call"), bundle: v.Bundle, cgroup: cg, children: &s.children,
	}
	defer func() {
		if err != nil {
			_ = p.destroy()
		}
	}()
	a, err := p.spawn(std, spec.Root.Path, spec.Mounts, spec.Process, func(pidFile string) []string {
		return []string{"create", "--bundle", v.Bundle, "--pid-file", pidFile}
	}, nil)
	if err != nil {
		return nil, err
	}
	p.adopted = a
	if err := p.run(nil, "start", p.id); err != nil {
		_ = a.process.Kill()
		_, _ = a.process.Wait()
		return nil, err
	}
	return p, nil
}

// spawn runs a command of the runtime that makes a process: create or exec. after are its arguments behind the id.
func (p *program) spawn(std *stdio, root string, mounts []specs.Mount, proc *specs.Process, command func(pidFile string) []string, after []string) (adopted, error) {
	dir, err := os.MkdirTemp(filepath.Dir(p.dir), filepath.Base(p.dir))
	if err != nil {
		return adopted{}, err
	}
	defer os.RemoveAll(dir)
	pidFile := filepath.Join(dir, "pid")
	args := command(pidFile)
	if proc.Terminal {
		stop, err := p.offerConsole(std, filepath.Join(dir, "tty"))
		if err != nil {
			return adopted{}, err
		}
		defer stop()
		args = append(args, "--console-socket", filepath.Join(dir, "tty"))
	}
	args = append(append(args, p.id), after...)
	if err := p.run(std, args...); err != nil {
		if code := findCommand(root, mounts, proc); code != "" {
			err = commandError(code, proc.Args[0])
		}
		return adopted{}, err
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return adopted{}, fmt.Errorf("runtime %s: %w", p.path, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return adopted{}, fmt.Errorf("runtime %s: pid file: %w", p.path, err)
	}
	child, err := os.FindProcess(pid)
	if err != nil {
		return adopted{}, err
	}
	return adopted{child}, nil
}

// offerConsole listens where the runtime will connect to hand over the terminal, and passes it on as libcontainer does.
func (p *program) offerConsole(std *stdio, path string) (stop func(), err error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		fd, err := wire.ReceiveFile(conn)
		if err != nil {
			return
		}
		defer unix.Close(fd)
		raw, err := std.socket.SyscallConn()
		if err == nil {
			_ = raw.Control(func(to uintptr) {
				_ = unix.Sendmsg(int(to), []byte("tty"), unix.UnixRights(fd), nil, 0)
			})
		}
	}()
	return func() { _ = l.Close() }, nil
}

// run runs one command of the runtime. std, when given, is what the container's process gets.
func (p *program) run(std *stdio, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), programTimeout)
	defer cancel()
	logFile, err := os.CreateTemp(filepath.Dir(p.dir), "log")
	if err != nil {
		return err
	}
	defer os.Remove(logFile.Name())
	defer logFile.Close()
	all := append(append([]string{}, p.args...), "--log", logFile.Name(), "--log-format", "json")
	cmd := exec.CommandContext(ctx, p.path, append(all, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	var said bytes.Buffer
	if std == nil {
		cmd.Stderr = &said
	} else if std.socket == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = std.child[0], std.child[1], std.child[2]
	}
	p.children.forking()
	defer p.children.forked()
	err = startUnified(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		words := lastMessage(logFile.Name())
		if words == "" {
			words = strings.TrimSpace(said.String())
		}
		return shimError(shim.CodeInvalid, "%s %s: %v: %s", filepath.Base(p.path), args[0], err, words)
	}
	if err != nil {
		return shimError(shim.CodeInvalid, "runtime: %v", err)
	}
	return nil
}

// lastMessage finds the last error in a runtime's JSON log.
func lastMessage(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	last := ""
	for line := range bytes.Lines(data) {
		var entry struct {
			Msg string `json:"msg"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg != "" {
			last = entry.Msg
		}
	}
	return last
}

func (p *program) signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		if err := p.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return nil
	}
	return p.run(nil, "kill", p.id, strconv.Itoa(int(sig)))
}

func (p *program) exec(proc *specs.Process, std *stdio) (child, error) {
	data, err := json.Marshal(proc)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(p.dir), "process")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err2 := file.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return nil, err
	}
	root := fmt.Sprintf("/proc/%d/root", p.pid())
	a, err := p.spawn(std, root, nil, proc, func(pidFile string) []string {
		return []string{"exec", "--detach", "--process", file.Name(), "--pid-file", pidFile}
	}, nil)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// destroy deletes the container, and the cgroup, which some runtimes leave.
func (p *program) destroy() error {
	err := p.run(nil, "delete", "--force", p.id)
	if _, gone := os.Stat(filepath.Join(filepath.Dir(p.dir), p.id)); errors.Is(gone, os.ErrNotExist) {
		err = nil // it was deleted before, or never created
	}
	return errors.Join(err, p.cgroup.Destroy())
}
