package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/logs"
	"github.com/stack-run/stack/runtime/shim"
)

// start starts a container. A container that runs already is a success: the request may have been sent again.
func (q *request) start(v shim.StartRequest) (shim.StartReply, error) {
	s := q.server
	var sinks []*os.File
	var err error
	if v.Attach {
		if sinks, err = q.take(2); err != nil {
			return shim.StartReply{}, err
		}
	}
	held, err := q.take(v.Held)
	if err != nil {
		closeFiles(sinks)
		return shim.StartReply{}, err
	}
	c, err := s.findOrAdd(v.ID)
	if err != nil {
		closeFiles(sinks, held)
		return shim.StartReply{}, err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if r := c.current(); r != nil {
		closeFiles(sinks, held)
		return shim.StartReply{PID: r.pid, Started: r.started}, nil
	}
	r, err := c.launch(v, sinks)
	if err != nil {
		closeFiles(held)
		return shim.StartReply{}, err
	}
	if len(held) > 0 {
		c.mu.Lock()
		before := c.held
		c.held = nil
		c.mu.Unlock()
		release(before) // their port may be among the new ones, to be served
		c.mu.Lock()
		c.held = c.hold(held, v.Forwards)
		c.mu.Unlock()
	}
	return shim.StartReply{PID: r.pid, Started: r.started}, nil
}

func closeFiles(lists ...[]*os.File) {
	for _, list := range lists {
		for _, f := range list {
			if f != nil {
				_ = f.Close()
			}
		}
	}
}

// launch makes everything a run owns, the process last. What was made is taken back when a later step fails.
func (c *container) launch(v shim.StartRequest, sinks []*os.File) (_ *run, err error) {
	s := c.server
	s.starts <- struct{}{}
	defer func() {
		<-s.starts
		s.worked()
	}()

	out := &output{id: c.id}
	if len(sinks) == 2 {
		out.attach(sinks[0], sinks[1])
	}
	r := &run{c: c, bundle: v.Bundle, out: out, rootfs: filepath.Join(v.Bundle, "rootfs"), execs: map[string]*execution{}, done: make(chan struct{})}
	defer func() {
		if err != nil {
			r.undo()
		}
	}()

	spec, err := readSpec(v.Bundle)
	if err != nil {
		return nil, err
	}
	spec.Root.Path = r.rootfs
	r.spec = *spec.Process
	r.sharedPIDs = !privatePIDs(spec)
	r.keepMounted = spec.Linux.RootfsPropagation == "shared" || spec.Linux.RootfsPropagation == "rshared"
	if r.cgroup, err = cgroupOf(c.id, spec); err != nil {
		return nil, err
	}
	if out.log, err = openLog(v.Log); err != nil {
		return nil, err
	}
	if r.io, err = openStdio(spec.Process.Terminal, v.StdinOpen); err != nil {
		return nil, err
	}
	r.io.once = v.StdinOnce

	if err := s.addParents(spec.Linux.CgroupsPath, r.cgroup.GetPaths()); err != nil {
		return nil, err
	}

	// From here on things are made that outlive a kill of this process.
	if err := s.remember(record{
		ID: c.id, Bundle: v.Bundle, Cgroup: spec.Linux.CgroupsPath, Runtime: v.Runtime, Args: v.RuntimeArgs, Time: time.Now(),
	}); err != nil {
		return nil, err
	}
	r.recorded = true
	if err := mountRootfs(r.rootfs, v.Rootfs, namespacePath(spec, specs.UserNamespace)); err != nil {
		return nil, err
	}
	r.mounted = len(v.Rootfs) > 0
	if v.DNS != nil && s.names != nil && c.net != nil {
		if err := s.names.Serve(c.id, fdPath(c.net), *v.DNS); err != nil {
			return nil, fmt.Errorf("names of %s: %w", c.id, err)
		}
		r.named = true
	}
	if err := r.execute(v, spec); err != nil {
		return nil, err
	}
	if r.mounted && !r.keepMounted {
		if err := unmountRootfs(r.rootfs); err != nil {
			logf("%s: %v", c.id, err) // it is tried again when the run ends
		} else {
			r.mounted = false
		}
	}
	c.mu.Lock()
	c.run, c.bundle = r, v.Bundle
	c.state = shim.State{ID: c.id, Status: shim.Running, PID: r.pid, Started: r.started, Netns: fdPath(c.net)}
	c.publish(shim.KindStart)
	c.mu.Unlock()
	go r.watch()
	return r, nil
}

// execute starts the process by the runtime the request names, and takes over its output.
func (r *run) execute(v shim.StartRequest, spec *specs.Spec) error {
	s := r.c.server
	maps, err := s.mapsOf(spec)
	if err == nil {
		err = maps.give(r.io.child)
	}
	if err != nil {
		return err
	}
	r.maps = maps
	unlock, err := s.shareCgroups()
	if err != nil {
		return err
	}
	defer unlock()
	s.children.forking()
	defer s.children.forked()
	if v.Runtime == "" {
		r.engine, err = startEmbedded(s.libcontainerDir(), r.c.id, spec, maps, r.io)
	} else {
		r.engine, err = s.startProgram(v, spec, r.io)
	}
	if err != nil {
		return err // and r.engine is nil: the starters return it as an interface
	}
	r.started = time.Now()
	pid := r.engine.pid()
	if r.process, err = openProcess(pid); err != nil {
		return err
	}
	s.children.add(pid)
	if err := r.io.started(); err != nil {
		return err
	}
	if r.io.master != nil {
		if v.Rows > 0 && v.Cols > 0 {
			_ = setSize(r.io.master, v.Rows, v.Cols) // its first size is a courtesy
		}
		r.out.copy(r.io.master, logs.Stdout)
		return nil
	}
	r.out.copy(r.io.stdout, logs.Stdout)
	r.out.copy(r.io.stderr, logs.Stderr)
	return nil
}

func openStdio(terminal, stdinOpen bool) (*stdio, error) {
	if terminal {
		return openConsole()
	}
	return openPipes(stdinOpen)
}

func openLog(l shim.Log) (*logs.Writer, error) {
	w, err := logs.Open(logConfig(l))
	if err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		err = &shim.Error{Code: shim.CodeInvalid, Message: err.Error()}
	}
	return w, err
}

func logConfig(l shim.Log) logs.Config {
	return logs.Config{
		Driver: l.Driver, Path: l.Path, MaxSize: l.MaxSize, MaxFiles: l.MaxFiles, Compress: l.Compress, Attrs: l.Attrs,
	}
}

// readSpec reads a bundle's config.json and checks what the shim relies on.
func readSpec(bundle string) (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, shimError(shim.CodeInvalid, "bundle: %v", err)
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, shimError(shim.CodeInvalid, "bundle: config.json: %v", err)
	}
	if !filepath.IsAbs(bundle) || spec.Process == nil || len(spec.Process.Args) == 0 || !filepath.IsAbs(spec.Process.Cwd) ||
		spec.Linux == nil || !filepath.IsAbs(spec.Linux.CgroupsPath) {
		return nil, shimError(shim.CodeInvalid, "bundle %s: an absolute path, process.args, process.cwd and linux.cgroupsPath are needed", bundle)
	}
	if spec.Root == nil {
		spec.Root = &specs.Root{}
	}
	return spec, nil
}

// privatePIDs tells whether all processes of the container end with its first one.
func privatePIDs(spec *specs.Spec) bool {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			return n.Path == ""
		}
	}
	return false
}

// cgroupOf gives the manager of the cgroup that the bundle names, which need not exist yet.
func cgroupOf(id string, spec *specs.Spec) (cgroups.Manager, error) {
	config, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec}, nil)
	if err == nil {
		var m cgroups.Manager
		if m, err = manager.New(config); err == nil {
			return m, nil
		}
	}
	return nil, shimError(shim.CodeInvalid, "cgroup: %v", err)
}
