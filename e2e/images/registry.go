package images

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Registry is a Debian docker-registry to start.
type Registry struct {
	Storage string // folder; made when missing
	Addr    string // host:port to listen on; empty takes a free loopback port
	// Users are lines of an htpasswd file with bcrypt hashes; with any, the registry asks for a password.
	Users []string
	// Start starts a program somewhere else than here: on a test's own machine.
	Start func(*exec.Cmd) error
}

// Running is a registry that was started and listens.
type Running struct {
	Addr string
	stop func()
}

// Stop ends the registry and removes its files, but for the storage.
func (r *Running) Stop() { r.stop() }

// Start starts a registry and returns when it listens.
func Start(ctx context.Context, r Registry) (*Running, error) {
	if r.Addr == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		r.Addr = l.Addr().String()
		l.Close()
	}
	if r.Start == nil {
		r.Start = (*exec.Cmd).Start
	}
	dir, err := os.MkdirTemp("", "stack-registry-")
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q, secret: tests}\n",
		r.Storage, r.Addr)
	if len(r.Users) > 0 {
		users := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(users, []byte(strings.Join(r.Users, "\n")+"\n"), 0o600); err != nil {
			return nil, err
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: tests, path: %q}}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", file)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := r.Start(cmd); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	running := &Running{Addr: r.Addr, stop: func() {
		cmd.Process.Kill()
		<-exited
		os.RemoveAll(dir)
	}}
	if err := r.answers(ctx, exited); err != nil {
		running.stop()
		return nil, fmt.Errorf("docker-registry: %w\n%s", err, log.Bytes())
	}
	return running, nil
}

// answers waits until the registry answers; it opens its socket last, so the first connection tells.
func (r Registry) answers(ctx context.Context, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		cmd := exec.Command("curl", "-s", "-o", os.DevNull, "--max-time", "5", "http://"+r.Addr+"/v2/")
		if err := r.Start(cmd); err != nil {
			return err
		}
		if cmd.Wait() == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("ended at its start")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
