package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

	commands io.Writer // of the shell
	answers  *bufio.Reader
}

// shell runs the command lines it reads and answers each by its exit code and its start and end in microseconds. It is one
// process, since moving each command's into the machine's cgroups would take longer than many a command.
const shell = `while read -r line; do
	begin=${EPOCHREALTIME/./}; eval "$line" >output 2>&1 </dev/null; echo "$? $begin ${EPOCHREALTIME/./}"; done`

func (b *box) boot(ctx context.Context, images *images) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "stack-bench-"); err != nil {
		return err
	}
	b.env = append(os.Environ(), "HOME="+b.dir, "STACK_ROOT="+filepath.Join(b.dir, "root"), "STACK_RUN=/run/stack", "STACK_CONFIG=")
	if b.machine, err = host.Boot(); err != nil {
		return err
	}
	if err := b.startShell(); err != nil {
		return err
	}
	// one registry serves both images: the small ones' storage with the big one's laid over it
	merged := filepath.Join(b.dir, "registry")
	if err := os.Mkdir(merged, 0o755); err != nil {
		return err
	}
	if _, err := b.run("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+images.small+":"+images.big, merged); err != nil {
		return err
	}
	running, err := testimages.Start(ctx, testimages.Registry{Addr: registry, Storage: merged, Start: b.machine.Start})
	if err != nil {
		return err
	}
	b.registries = append(b.registries, running)
	return nil
}

func (b *box) startShell() error {
	cmd := exec.Command("bash", "-c", shell)
	cmd.Dir, cmd.Env = b.dir, b.env
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	b.commands, b.answers = in, bufio.NewReader(out)
	return b.machine.Start(cmd)
}

// run runs a program on the machine in the folder and returns the seconds it took.
func (b *box) run(args ...string) (float64, error) {
	var line strings.Builder
	for _, arg := range args {
		line.WriteString(quote(arg) + " ")
	}
	if _, err := fmt.Fprintln(b.commands, line.String()); err != nil {
		return 0, err
	}
	var code int
	var begin, end int64
	if _, err := fmt.Fscanln(b.answers, &code, &begin, &end); err != nil {
		return 0, err
	}
	if code != 0 {
		output, _ := os.ReadFile(filepath.Join(b.dir, "output"))
		return 0, fmt.Errorf("%s: exit code %d\n%s", strings.Join(args, " "), code, output)
	}
	return float64(end-begin) / 1e6, nil
}

// quote makes one word of a line for the shell.
func quote(arg string) string {
	arg = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(arg)
	return "$'" + arg + "'"
}

func (b *box) file(compose string) error {
	return os.WriteFile(filepath.Join(b.dir, "compose.yaml"), []byte(compose), 0o644)
}

// processes are the folders in /proc of the machine's processes of some programs.
func (b *box) processes(programs ...string) (dirs []string, err error) {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.machine.PID))
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if ns, err := os.Readlink(dir + "/ns/pid"); err != nil || ns != namespace {
			continue // of another machine, or gone
		}
		program, _ := os.Readlink(dir + "/exe")
		if slices.Contains(programs, filepath.Base(program)) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, err
}

// memory adds up the PSS of the machine's processes of some programs.
func (b *box) memory(programs ...string) (int64, error) {
	processes, err := b.processes(programs...)
	var sum int64
	for _, dir := range processes {
		sum += pss(dir)
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
