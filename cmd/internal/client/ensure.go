package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
)

// ReadyEnv names the descriptor on which a daemon that Ensure started reports: ReadyWord once it listens, or the text
// of the error that it failed with.
const (
	ReadyEnv  = "STACK_READY_FD"
	ReadyWord = "ready\n"
)

// EnsureOptions say where the daemon is and how to start it.
type EnsureOptions struct {
	Root   string // state folder; daemon.log goes there
	RunDir string // holds the socket
	// Command starts the daemon in the foreground; empty is this program with `daemon`.
	Command []string
	// Env is added to this process's environment.
	Env []string
}

// Socket is where the daemon of a run-dir listens.
func Socket(runDir string) string { return filepath.Join(runDir, "stack.sock") }

// Ensure connects to the daemon and starts it where none listens. Of several that find none, one starts it and the
// others wait for that. The error of a daemon that can't start is the daemon's own.
func Ensure(ctx context.Context, o EnsureOptions) (*Client, error) {
	c, err := Dial(ctx, Socket(o.RunDir))
	if !errors.Is(err, ErrNotRunning) {
		return c, err
	}
	if os.Geteuid() != 0 {
		return nil, &api.Error{
			Code:    api.Denied,
			Message: "no daemon is running, and starting one needs root",
			Remedy:  "run the command as root, or start the service: systemctl start stack",
		}
	}
	for _, dir := range []string{o.Root, o.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	unlock, err := LockStart(ctx, o.RunDir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c, err := Dial(ctx, Socket(o.RunDir)); !errors.Is(err, ErrNotRunning) {
		return c, err // another one started it meanwhile
	}
	if err := start(ctx, o); err != nil {
		return nil, err
	}
	return Dial(ctx, Socket(o.RunDir))
}

// LockStart makes Ensure wait until the returned function is called: a daemon that somebody else starts holds it until it
// listens, so that no second one is started meanwhile. A daemon that Ensure started must not: Ensure holds it.
func LockStart(ctx context.Context, runDir string) (unlock func(), err error) {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, err
	}
	return lock(ctx, filepath.Join(runDir, "start.lock"))
}

// Started tells whether this process is a daemon that Ensure started.
func Started() bool { return os.Getenv(ReadyEnv) != "" }

// lock holds an exclusive lock on a file until the returned function is called, or this process ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if !errors.Is(err, unix.EINTR) {
				locked <- err
				return
			}
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { // the lock can't be called off; what comes of it is let go
			<-locked
			f.Close()
		}()
		return nil, ctx.Err()
	}
}

// start runs the daemon detached from this process and returns when it listens.
func start(ctx context.Context, o EnsureOptions) error {
	command := o.Command
	if len(command) == 0 {
		command = []string{"/proc/self/exe", "daemon"}
		if self, err := os.Executable(); err == nil {
			command[0] = self // shows in ps as what it is
		}
	}
	log, err := os.OpenFile(filepath.Join(o.Root, "daemon.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()

	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{reportEnd} // becomes descriptor 3
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Env = append(cmd.Env, "STACK_ROOT="+o.Root, "STACK_RUN="+o.RunDir, ReadyEnv+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	reportEnd.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer cmd.Process.Release()

	defer context.AfterFunc(ctx, func() { report.Close() })()
	text, err := io.ReadAll(io.LimitReader(report, 64<<10))
	switch {
	case string(text) == ReadyWord:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("start the daemon: %w", err)
	}
	message := strings.TrimSpace(string(bytes.TrimPrefix(text, []byte(ReadyWord))))
	if message == "" {
		message = "it ended without a word"
	}
	return &api.Error{
		Code:    api.Internal,
		Message: "the daemon did not start: " + message,
		Remedy:  "its log is " + log.Name(),
	}
}

// Reporter is for the daemon's first moments: the function it returns tells the Ensure that started this process how the
// start went; a nil error means that the daemon listens. Only its first call counts, and without an Ensure it does
// nothing. Processes that the daemon starts don't inherit the way to report.
func Reporter() func(error) {
	fd, err := strconv.Atoi(os.Getenv(ReadyEnv))
	os.Unsetenv(ReadyEnv)
	if err != nil {
		return func(error) {}
	}
	unix.CloseOnExec(fd)
	pipe := os.NewFile(uintptr(fd), "ready")
	return func(err error) {
		text := ReadyWord
		if err != nil {
			text = err.Error()
		}
		io.WriteString(pipe, text) // fails when nobody waits any more, and on a second call
		pipe.Close()
	}
}
