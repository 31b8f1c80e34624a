package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Files of a shim below its folder.
const (
	SocketName = "shim.sock"
	LogName    = "log"
	PIDName    = "pid"
)

// SpawnOptions say which shim to start.
type SpawnOptions struct {
	Program string // path of stack-shim
	Dir     string // <run-dir>/shims/<stack>, made when missing
	DNS     string // folder of the name records; empty: no names are served
}

// Spawn connects to the stack's shim, and starts one when none runs. The shim has a session of its own and outlives the
// caller. It is waited for without polling: it holds a pipe until it answers. A shim that could not start leaves its
// reason in the error.
func Spawn(ctx context.Context, o SpawnOptions) (*Client, error) {
	socket := filepath.Join(o.Dir, SocketName)
	if c, err := Dial(ctx, socket); err == nil {
		return c, nil
	} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrLost) {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	// One caller starts a shim at a time; who waited finds it running.
	lock, err := os.OpenFile(filepath.Join(o.Dir, "spawn.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("shim: lock: %w", err)
	}
	if c, err := Dial(ctx, socket); err == nil {
		return c, nil
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, LogName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	defer log.Close()
	ready, child, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	defer ready.Close()

	cmd := exec.Command(o.Program, "--dir", o.Dir, "--dns", o.DNS, "--ready", "3")
	cmd.Dir = "/" // holds no file system busy
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{child}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	child.Close()
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it is the caller's child for as long as the caller lives

	said, err := await(ctx, ready)
	if err != nil {
		_ = cmd.Process.Kill() // nothing runs below it yet
		return nil, fmt.Errorf("shim did not start: %w", err)
	}
	if !bytes.Equal(said, []byte("ok")) {
		return nil, fmt.Errorf("shim did not start: %s (see %s)", said, filepath.Join(o.Dir, LogName))
	}
	return Dial(ctx, socket)
}

// await reads what the shim says about its start until it closes the pipe.
func await(ctx context.Context, ready *os.File) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = ready.Close() })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(ready, 4096))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil && len(said) == 0 {
		err = errors.New("it ended without a word")
	}
	return said, err
}
