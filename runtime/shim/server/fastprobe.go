package server

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/exeseal"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/runtime/shim/internal/filter"
	"github.com/stack-run/stack/runtime/shim/internal/probe"
)

// errNotFast says that a probe has to be run as any exec: in a container of an OCI runtime program, or with what
// the small program does not know (SELinux labels, scheduling, time namespaces, filters that ask another process).
var errNotFast = errors.New("not by the small program")

// prepared is a probe's request, kept between the probes of one run of a container: they are all the same.
type prepared struct {
	args    []string
	request *os.File
	uid     int // owner of the output, as the host sees it
}

// startFast starts a probe by the small program of boot/probe.c. An error that is not the shim's own word says that this
// way is not open here, and nothing was started.
func (r *run) startFast(args []string, out *os.File) (probing, error) {
	s := r.c.server
	if s.noFast.Load() {
		return nil, errNotFast
	}
	exe, err := s.sealed()
	if err != nil {
		return nil, err
	}
	s.starts <- struct{}{}
	defer func() { <-s.starts }()
	ours, theirs, err := pipe(false)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	s.children.forking()
	defer s.children.forked()
	pid, err := r.fork(args, exe, out, theirs)
	if err != nil {
		return nil, err
	}
	theirs.Close()
	answer, err := r.answer(args, pid, ours)
	if err != nil {
		return nil, err
	}
	p := fastProbe{r: r}
	if p.p, err = openProcess(answer.PID); err != nil {
		_ = syscall.Kill(answer.PID, syscall.SIGKILL)
		_, _ = syscall.Wait4(answer.PID, nil, 0, nil)
		return nil, shimError(shim.CodeInternal, "probe: %v", err)
	}
	s.children.add(answer.PID)
	return p, nil
}

// fork executes the small program.
func (r *run) fork(args []string, exe, out, answer *os.File) (int, error) {
	r.probeMu.Lock()
	defer r.probeMu.Unlock()
	if r.over {
		return 0, shimError(shim.CodeConflict, "container %s has ended", r.c.id)
	}
	if r.probe == nil || !slices.Equal(r.probe.args, args) {
		p, err := r.prepare(args)
		if err != nil {
			return 0, err
		}
		r.probe.close()
		r.probe = p
	}
	if r.probe.uid != 0 {
		if err := out.Chown(r.probe.uid, -1); err != nil { // so that programs can open it anew (/dev/stdout)
			return 0, err
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	var fds []uintptr
	for _, f := range []*os.File{null, out, out, r.probe.request, r.process.fd, answer} {
		raw, err := f.SyscallConn()
		if err != nil {
			return 0, err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, fd) }); err != nil {
			return 0, err
		}
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(exe.Fd()))
	pid, err := syscall.ForkExec(path, []string{probe.Name}, &syscall.ProcAttr{Env: []string{}, Files: fds})
	if err != nil {
		return 0, fmt.Errorf("probe: %w", err)
	}
	return pid, nil
}

// startPatience is how long the way into a container may take.
const startPatience = 30 * time.Second

// answer waits for the small program to say what came of it, and to end.
func (r *run) answer(args []string, pid int, from *os.File) (probe.Answer, error) {
	_ = from.SetReadDeadline(time.Now().Add(startPatience))
	data := make([]byte, probe.AnswerSize)
	n, readErr := io.ReadFull(from, data)
	if readErr != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	a, err := probe.ParseAnswer(data[:n])
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		// The command may have been started: whoever collects orphans gets it.
		_ = r.c.server.children.start()
		return a, shimError(shim.CodeInternal, "probe: the container could not be entered within %s", startPatience)
	}
	if err != nil || a.Stage == probe.Done {
		return a, err
	}
	if a.PID > 0 {
		_, _ = syscall.Wait4(a.PID, nil, 0, nil)
	}
	switch {
	case a.Stage == probe.Join && a.Errno == unix.EINVAL: // before Linux 5.8
		r.c.server.noFast.Store(true)
	case a.Stage == probe.Execute:
		p := r.spec
		p.Args = args
		code := findCommand(fmt.Sprintf("/proc/%d/root", r.pid), nil, &p)
		switch {
		case r.ending():
			return a, shimError(shim.CodeConflict, "container %s has ended", r.c.id)
		case code != "":
			return a, commandError(code, p.Args[0])
		}
		return a, shimError(shim.CodeInvalid, "exec: %q: %v", p.Args[0], a.Errno)
	}
	return a, a
}

func (p *prepared) close() {
	if p != nil {
		_ = p.request.Close()
	}
}

// forgetProbe gives back what is kept for the next probe; there is none.
func (r *run) forgetProbe() {
	r.probeMu.Lock()
	defer r.probeMu.Unlock()
	r.probe.close()
	r.probe, r.over = nil, true
}

// prepare writes down what a command in the container gets, as libcontainer would give it to an exec.
func (r *run) prepare(args []string) (*prepared, error) {
	e, ok := r.engine.(*embedded)
	if !ok {
		return nil, errNotFast
	}
	config, p := e.container.Config(), &r.spec
	if !known(&config, p) {
		return nil, errNotFast
	}
	q := probe.Request{
		UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids, Umask: probe.NoUmask, OOMScore: probe.NoScore,
		NoNewPrivs: p.NoNewPrivileges, Directory: p.Cwd, AppArmor: p.ApparmorProfile, Keyring: "_ses." + r.c.id,
		Args: args, Env: p.Env,
	}
	for _, ns := range config.Namespaces {
		q.Namespaces |= ns.Syscall()
	}
	if config.Umask != nil {
		q.Umask = int(*config.Umask)
	}
	if config.OomScoreAdj != nil {
		q.OOMScore = *config.OomScoreAdj
	}
	for _, l := range p.Rlimits {
		q.Limits = append(q.Limits, probe.Limit{Resource: uint64(rlimits[l.Type]), Soft: l.Soft, Hard: l.Hard})
	}
	var err error
	if q.Capabilities, err = capabilityBits(p.Capabilities); err != nil {
		return nil, err
	}
	if q.Filter, q.FilterFlags, err = compiled(config.Seccomp); err != nil {
		return nil, err
	}
	q.Cgroups = procsFiles(r.cgroup.GetPaths())
	uid, err := config.HostUID(int(p.User.UID))
	if err != nil {
		return nil, err
	}
	request, err := q.File()
	if err != nil {
		return nil, err
	}
	return &prepared{args: slices.Clone(args), request: request, uid: uid}, nil
}

// known tells whether the small program can give a command all that the container's have.
func known(config *configs.Config, p *specs.Process) bool {
	home := slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") && e != "HOME=" })
	for i, e := range p.Env {
		name, _, set := strings.Cut(e, "=")
		if !set || name == "" || hasEnv(p.Env[i+1:], name) { // libcontainer refuses it, or chooses
			return false
		}
	}
	return home && !p.Terminal && p.Capabilities != nil && p.SelinuxLabel == "" && config.ProcessLabel == "" &&
		p.Scheduler == nil && config.Scheduler == nil && p.IOPriority == nil && config.IOPriority == nil &&
		p.ExecCPUAffinity == nil && config.ExecCPUAffinity == nil && config.Personality == nil && config.MemoryPolicy == nil &&
		config.IntelRdt == nil && !config.NoNewKeyring && !config.RootlessEUID && !config.Namespaces.Contains(configs.NEWTIME) &&
		(config.Seccomp == nil || config.Seccomp.ListenerPath == "")
}

// procsFiles are the files by which a process joins cgroups, each once: several controllers may have one folder.
func procsFiles(paths map[string]string) []string {
	seen := map[string]bool{}
	for _, path := range paths {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			seen[filepath.Join(real, "cgroup.procs")] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

var capabilityNumbers = sync.OnceValues(func() (map[string]uint, error) {
	list, err := capability.ListSupported()
	numbers := map[string]uint{}
	for _, c := range list {
		numbers["CAP_"+strings.ToUpper(c.String())] = uint(c)
	}
	return numbers, err
})

// capabilityBits turns lists of names into bits; what this kernel doesn't know is left out, as libcontainer does.
func capabilityBits(c *specs.LinuxCapabilities) (probe.Capabilities, error) {
	numbers, err := capabilityNumbers()
	if err != nil {
		return probe.Capabilities{}, fmt.Errorf("capabilities: %w", err)
	}
	bits := func(names []string) (set uint64) {
		for _, name := range names {
			if n, ok := numbers[name]; ok {
				set |= 1 << n
			}
		}
		return set
	}
	return probe.Capabilities{
		Bounding: bits(c.Bounding), Effective: bits(c.Effective), Permitted: bits(c.Permitted),
		Inheritable: bits(c.Inheritable), Ambient: bits(c.Ambient),
	}, nil
}

// filters are the programs of the profiles in use, which internSeccomp has made one of.
var filters sync.Map // *configs.Seccomp to compiledFilter

type compiledFilter struct {
	program []unix.SockFilter
	flags   uint32
}

func compiled(profile *configs.Seccomp) ([]unix.SockFilter, uint32, error) {
	if profile == nil {
		return nil, 0, nil
	}
	if f, ok := filters.Load(profile); ok {
		return f.(compiledFilter).program, f.(compiledFilter).flags, nil
	}
	program, flags, err := filter.Compile(profile)
	if err == nil && interned(profile) {
		filters.Store(profile, compiledFilter{program, flags})
	}
	return program, flags, err
}

// sealed is this program in a form that nobody in a container can write to, as libcontainer makes it for each of its
// processes. It is kept: what can't be written needs no second copy.
func (s *Server) sealed() (*os.File, error) {
	s.sealOnce.Do(func() { s.seal, s.sealErr = exeseal.CloneSelfExe(s.dir) })
	return s.seal, s.sealErr
}

// fastProbe is a probe that the small program has started.
type fastProbe struct {
	r *run
	p *process
}

func (p fastProbe) wait(deadline time.Time) (int, bool) {
	if !p.p.waitUntil(deadline) {
		return 0, false
	}
	var status syscall.WaitStatus
	_, err := syscall.Wait4(p.p.pid, &status, 0, nil)
	p.r.c.server.children.remove(p.p.pid)
	p.p.close()
	if err != nil {
		return 255, true
	}
	return exitCode(status), true
}

func (p fastProbe) kill() { killSession(p.p.pid) }

// leave lets somebody else collect the command, which can't die before its container goes on.
func (p fastProbe) leave() {
	go p.wait(time.Time{})
}
