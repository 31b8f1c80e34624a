package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stack-run/stack/e2e/host"
	testimages "github.com/stack-run/stack/e2e/images"
)

// box is a machine with a folder and two registries: what every contender needs.
type box struct {
	machine    *host.Machine
	dir        string
	env        []string
	registries []*testimages.Running
}

func (b *box) boot(ctx context.Context, images *images) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "stack-bench-"); err != nil {
		return err
	}
	b.env = append(os.Environ(), "HOME="+b.dir)
	if b.machine, err = host.Boot(); err != nil {
		return err
	}
	// one registry serves both images: the small ones' storage with the big one's laid over it
	merged := filepath.Join(b.dir, "registry")
	if err := os.Mkdir(merged, 0o755); err != nil {
		return err
	}
	if err := b.run("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+images.small+":"+images.big, merged); err != nil {
		return err
	}
	running, err := testimages.Start(ctx, testimages.Registry{Addr: registry, Storage: merged, Start: b.machine.Start})
	if err != nil {
		return err
	}
	b.registries = append(b.registries, running)
	return nil
}

// run runs a program on the machine in the folder, and returns what it printed in its error.
func (b *box) run(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = b.dir, b.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := b.machine.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	return nil
}

func (b *box) file(compose string) error {
	return os.WriteFile(filepath.Join(b.dir, "compose.yaml"), []byte(compose), 0o644)
}

// memory adds up the PSS of the machine's processes whose program has one of the names.
func (b *box) memory(programs ...string) (int64, error) {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.machine.PID))
	if err != nil {
		return 0, err
	}
	var sum int64
	processes, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		if ns, err := os.Readlink(dir + "/ns/pid"); err != nil || ns != namespace {
			continue // of another machine, or gone
		}
		program, _ := os.Readlink(dir + "/exe")
		for _, name := range programs {
			if filepath.Base(program) == name {
				sum += pss(dir)
			}
		}
	}
	return sum, err
}

// pss is the proportional set size in bytes; 0 for a process that is gone.
func pss(dir string) int64 {
	content, _ := os.ReadFile(dir + "/smaps_rollup")
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

func (b *box) stop() error {
	for _, r := range b.registries {
		r.Stop()
	}
	var err error
	if b.machine != nil {
		err = b.machine.Stop()
	}
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}
