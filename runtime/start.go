package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/loopback6"
	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/shim"
)

// StartInput is what a start needs beyond the record: how the container's network came out.
type StartInput struct {
	Hosts       []bundle.HostEntry // own addresses and links, for /etc/hosts
	HostGateway []netip.Addr       // what host-gateway stands for
	DNS         *dns.Config        // nil: no name service in the container
	Held        []*os.File         // kept open by the shim until the container is released
	// Forwards are the held files that the shim serves itself, for clients that address translation can't serve.
	Forwards   []loopback6.Forward
	Attach     []*os.File // standard output and error are copied there, from the first byte on
	ShmPath    string     // what is behind /dev/shm where it is shared with other containers
	WorkingDir string     // of the stack: profiles in security_opt are relative to it
	Warn       func(string)
	// Again is a start by restart policy: it is refused when somebody stopped the container meanwhile.
	Again bool
}

// Sandbox makes, or finds, the network namespace of a container that has one of its own, and returns its path.
func (e *Engine) Sandbox(ctx context.Context, id string) (string, error) {
	c, err := e.get(id)
	if err != nil {
		return "", err
	}
	v := c.View()
	sysctls, err := bundle.SandboxSysctls(&v.Spec, networkMode(v.NetMode))
	if err != nil {
		return "", fmt.Errorf("container %s: %w", v.Name, err)
	}
	s, err := e.shim(ctx, v.Stack, true)
	if err != nil {
		return "", err
	}
	uids, gids := e.idMaps(&v.Record)
	reply, err := s.client.Sandbox(ctx, shim.SandboxRequest{ID: v.ID, Sysctls: sysctls, UIDs: shimMaps(uids), GIDs: shimMaps(gids)})
	if err != nil {
		return "", fmt.Errorf("container %s: network namespace: %w", v.Name, err)
	}
	c.mu.Lock()
	c.released = false
	c.state.Netns, c.userns = reply.Netns, reply.Userns
	c.mu.Unlock()
	return reply.Netns, nil
}

// Start runs the container's program. It returns when the program has been executed; when that fails the container is
// as it was before, its intent too. What ctx ends in the middle of may have started all the same: the shim tells.
func (e *Engine) Start(ctx context.Context, id string, in StartInput) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	v := c.View()
	if v.Running() {
		return nil
	}
	if in.Again && v.Intent != IntentRun {
		return fmt.Errorf("start container %s: %w", v.Name, ErrStopped)
	}
	req, err := e.prepareStart(ctx, c, v, in)
	if err != nil {
		return fmt.Errorf("start container %s: %w", v.Name, err)
	}
	s, err := e.shim(ctx, v.Stack, true)
	if err != nil {
		return err
	}
	// From here on a crash leaves a container that is meant to run.
	err = c.update(func(r *Record) {
		r.Intent, r.Health, r.Updating = IntentRun, "", false // it starts with what its spec says
		if !in.Again {
			r.Restarts, r.Attempts = 0, 0
		}
		if !in.Again && !r.Healing {
			r.Ailing = 0
		}
		r.Healing = false
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.released = false
	c.mu.Unlock()
	reply, err := s.client.Start(ctx, req, append(slices.Clone(in.Attach), in.Held...)...)
	if err != nil {
		if ctx.Err() == nil {
			err = errors.Join(err, c.update(func(r *Record) { r.Intent = v.Intent }))
		}
		return fmt.Errorf("start container %s: %w", v.Name, err)
	}
	c.setState(shim.State{ID: id, Status: shim.Running, PID: reply.PID, Started: reply.Started, Netns: v.State.Netns})
	return nil
}

// prepareStart writes the bundle and says how to start it.
func (e *Engine) prepareStart(ctx context.Context, c *Container, v View, in StartInput) (shim.StartRequest, error) {
	program, err := e.program(v.Spec.Runtime)
	if err != nil {
		return shim.StartRequest{}, err
	}
	input, err := e.bundleInput(ctx, c, v, in)
	if err != nil {
		return shim.StartRequest{}, err
	}
	b, err := bundle.Make(input)
	if err != nil {
		return shim.StartRequest{}, err
	}
	for _, w := range b.Warnings {
		if in.Warn != nil {
			in.Warn(w)
		}
	}
	if err := b.Write(); err != nil {
		return shim.StartRequest{}, err
	}
	rootfs, err := e.opts.Images.Rootfs(ctx, v.ImageID, v.ID, v.Dir)
	if err != nil {
		return shim.StartRequest{}, err
	}
	if ownIDs(&v.Spec) {
		if rootfs, err = e.mapRootfs(v, rootfs); err != nil {
			return shim.StartRequest{}, err
		}
	}
	log, err := e.logConfig(v)
	if err != nil {
		return shim.StartRequest{}, err
	}
	req := shim.StartRequest{
		ID: v.ID, Bundle: v.Dir, Runtime: program.Path, RuntimeArgs: program.Args,
		Log: log, DNS: in.DNS, StdinOpen: v.Spec.StdinOpen, Forwards: in.Forwards, Attach: len(in.Attach) > 0,
	}
	for _, m := range rootfs {
		req.Rootfs = append(req.Rootfs, shim.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	return req, nil
}

// bundleInput gathers everything that becomes the OCI config.
func (e *Engine) bundleInput(ctx context.Context, c *Container, v View, in StartInput) (bundle.Input, error) {
	img, err := e.imageConfig(ctx, &v.Record)
	if err != nil {
		return bundle.Input{}, err
	}
	input := bundle.Input{
		Service: &v.Spec, Image: img, ID: v.ID, Name: v.Name, Stack: v.Stack, Replica: v.Replica,
		WorkingDir: in.WorkingDir, Dir: v.Dir, Mounts: v.Mounts, Host: e.host,
		CgroupPath: filepath.Join("/", e.cgroupRoot(), v.Stack, v.ID),
		SecretsDir: e.secretsDir(&v.Record),
		ReadFile:   func(path string) ([]byte, error) { return e.opts.Images.ReadFile(ctx, v.ImageID, path) },
	}
	input.UIDs, input.GIDs = e.idMaps(&v.Record)
	if input.Network, err = e.bundleNetwork(v, in); err != nil {
		return bundle.Input{}, err
	}
	if input.Network.Userns, err = e.userNamespace(ctx, c, v); err != nil {
		return bundle.Input{}, err
	}
	if v.PIDOf != "" {
		pid, err := e.runningPID(v.PIDOf)
		if err != nil {
			return bundle.Input{}, fmt.Errorf("pid: %s: %w", v.Spec.PID, err)
		}
		input.PIDPath = procPath(pid, "ns/pid")
	}
	if v.IPCOf != "" {
		pid, err := e.runningPID(v.IPCOf)
		if err != nil {
			return bundle.Input{}, fmt.Errorf("ipc: %s: %w", v.Spec.IPC, err)
		}
		input.IPCPath = procPath(pid, "ns/ipc")
	}
	input.ShmPath = in.ShmPath
	for name, file := range v.Spec.SecretEnvironment {
		value, err := os.ReadFile(file)
		if err != nil {
			return bundle.Input{}, fmt.Errorf("environment.%s: %w", name, err)
		}
		if input.SecretEnv == nil {
			input.SecretEnv = map[string]string{}
		}
		input.SecretEnv[name] = string(value)
	}
	for _, f := range v.Files {
		content := f.Content
		if f.File != "" {
			if content, err = os.ReadFile(f.File); err != nil {
				return bundle.Input{}, fmt.Errorf("%s: %w", f.Source, err)
			}
		}
		file := bundle.File{Name: f.Source, Target: f.Target, Content: content, UID: f.UID, GID: f.GID}
		if f.Mode != nil {
			file.Mode = *f.Mode
		}
		if f.Secret {
			input.Secrets = append(input.Secrets, file)
		} else {
			input.Configs = append(input.Configs, file)
		}
	}
	return input, nil
}

func (e *Engine) bundleNetwork(v View, in StartInput) (bundle.Network, error) {
	host := hostResolv()
	n := bundle.Network{Mode: networkMode(v.NetMode), Netns: v.State.Netns, Hosts: in.Hosts, HostGateway: in.HostGateway}
	switch v.NetMode {
	case NetHost:
		n.Netns = ""
		n.HostsBase, _ = os.ReadFile("/etc/hosts") // without one there is nothing to take over
		n.Resolv = bundle.HostResolv(&v.Spec, host)
	case NetContainer:
		owner, err := e.get(v.NetOf)
		if err != nil {
			return n, fmt.Errorf("network_mode: %s: %w", v.Spec.NetworkMode, err)
		}
		o := owner.View()
		if !o.Running() {
			return n, fmt.Errorf("network_mode: %s: container %s: %w", v.Spec.NetworkMode, o.Name, ErrNotRunning)
		}
		n.Netns, n.FilesFrom = procPath(o.State.PID, "ns/net"), o.Dir
	case NetPrivate:
		n.Resolv = bundle.PrivateResolv(&v.Spec, host)
	default:
		n.Resolv = bundle.HostResolv(&v.Spec, host)
	}
	return n, nil
}

func networkMode(mode string) bundle.Mode {
	switch mode {
	case NetHost:
		return bundle.HostNet
	case NetNone:
		return bundle.None
	case NetContainer:
		return bundle.Shared
	}
	return bundle.Private
}

func hostResolv() bundle.Resolv {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return bundle.Resolv{}
	}
	return bundle.ParseResolv(data)
}

func (e *Engine) runningPID(id string) (int, error) {
	c, err := e.get(id)
	if err != nil {
		return 0, err
	}
	v := c.View()
	if !v.Running() {
		return 0, fmt.Errorf("container %s: %w", v.Name, ErrNotRunning)
	}
	return v.State.PID, nil
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// IsStartRefused tells errors of the container's own making (no such command, wrong bundle) from the daemon's.
func IsStartRefused(err error) bool {
	return errors.Is(err, shim.ErrNoCommand) || errors.Is(err, shim.ErrNotExec) || errors.Is(err, shim.ErrInvalid)
}
