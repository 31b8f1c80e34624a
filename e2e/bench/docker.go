package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	testimages "github.com/stack-run/stack/e2e/images"
)

// docker is Debian's Docker engine with Compose, in a root file system of its own on a machine of its own.
type docker struct {
	box
	root string
	pid  string // file with the engine's process id as the machine sees it
}

func (*docker) name() string { return "docker" }

// engine starts dockerd in the root file system $1, writing its process id to $2. It is the machine's /, so that nothing of
// the host's is in its way.
//
//go:embed dockerd.sh
var engine string

func (d *docker) start(ctx context.Context, images *images) error {
	base, err := testimages.DockerRoot(ctx)
	if err != nil {
		return err
	}
	if err := d.boot(ctx, images); err != nil {
		return err
	}
	d.root, d.pid = filepath.Join(d.dir, "engine"), filepath.Join(d.dir, "pid")
	if err := exec.Command("cp", "-a", "--reflink=auto", base, d.root).Run(); err != nil { // on disk: dockerd's overlays need it
		return err
	}
	cmd := exec.Command("unshare", "--mount", "bash", "-euc", engine, "dockerd", d.root, d.pid)
	cmd.Dir, cmd.Env = "/", os.Environ()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := d.machine.Start(cmd); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := d.in("docker", "info"); err == nil {
			return nil
		} else if time.Now().After(deadline) {
			return fmt.Errorf("the engine does not answer: %w\n%s", err, log.Bytes())
		}
	}
}

func (d *docker) file(compose string) error {
	return os.WriteFile(filepath.Join(d.root, "compose.yaml"), []byte(compose), 0o644)
}

// in runs a program where the engine runs.
func (d *docker) in(args ...string) (float64, error) {
	pid, err := os.ReadFile(d.pid)
	if err != nil {
		return 0, err
	}
	return d.run(append([]string{"nsenter", "-t", string(bytes.TrimSpace(pid)), "-m", "-r", "-w"}, args...)...)
}

func (d *docker) compose(args ...string) (float64, error) {
	return d.in(append([]string{"docker-compose", "-f", "/compose.yaml"}, args...)...)
}

func (d *docker) up() (float64, error)   { return d.compose("up", "-d") }
func (d *docker) down() (float64, error) { return d.compose("down", "-t", "0") }
func (d *docker) pull() (float64, error) { return d.compose("pull", "-q") }

func (d *docker) memory() (int64, error) {
	return d.box.memory("dockerd", "containerd", "containerd-shim-runc-v2", "docker-proxy")
}

func (d *docker) stop() error { return d.box.stop() } // the engine dies with its machine
