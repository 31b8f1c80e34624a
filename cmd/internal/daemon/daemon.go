// Package daemon wires the rooms together and serves the API: the one place that opens everything.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/stack-run/stack/cmd/internal/hostconfig"
	"github.com/stack-run/stack/cmd/internal/server"
	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivers"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/reconciler/gitops"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/builtin"
)

// Options of a daemon.
type Options struct {
	Root, RunDir string
	Config       hostconfig.Config
	Version      string
	ShimProgram  string               // path of stack-shim; empty: beside this program
	Ready        func()               // called when requests are served
	Logf         func(string, ...any) // nil: standard error
}

// Run serves until ctx ends or a client asks it to stop. Containers go on in either case.
func Run(ctx context.Context, o Options) error {
	if o.Logf == nil {
		o.Logf = func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, time.Now().UTC().Format(time.RFC3339)+" "+format+"\n", args...)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("the daemon needs root: it creates namespaces, mounts and network interfaces; start it with sudo")
	}
	var err error
	if o.Root, err = absolute(o.Root); err != nil {
		return err
	}
	if o.RunDir, err = absolute(o.RunDir); err != nil {
		return err
	}
	if o.ShimProgram == "" {
		if o.ShimProgram, err = shimBeside(); err != nil {
			return err
		}
	}
	reconciler.Version = o.Version
	parts, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer parts.close(o.Logf)
	socket := filepath.Join(o.RunDir, "stack.sock")
	listener, err := server.Listen(socket)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer os.Remove(socket)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	backend := &backend{parts: parts, options: o, stop: stop}
	if err := parts.repositories.Start(); err != nil {
		return err
	}
	defer parts.repositories.Close()
	if o.Ready != nil {
		o.Ready()
	}
	return server.New(backend, server.Options{Logf: o.Logf, GitOps: repositories{parts.repositories}, Metrics: parts.metrics}).Serve(ctx, listener)
}

func absolute(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("make the daemon's folder: %w", err)
	}
	// Kernel names derive from the folder: two ways to write it must not make two daemons.
	return filepath.EvalSymlinks(dir)
}

func shimBeside() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program := filepath.Join(filepath.Dir(self), "stack-shim")
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("stack-shim is not beside %s: %w; install both into one folder", self, err)
	}
	return program, nil
}

// parts are the opened rooms.
type parts struct {
	images     *image.Store
	networks   *netdriver.Manager
	volumes    *voldriver.Store
	engine     *runtime.Engine
	reconciler *reconciler.Reconciler
	// repositories start when all else serves, and end before it.
	repositories *gitops.Controller
	metrics      *metrics
}

func open(ctx context.Context, o Options) (p *parts, err error) {
	p = &parts{metrics: newMetrics()}
	defer func() {
		if err != nil {
			p.close(o.Logf)
			p = nil
		}
	}()
	registries := map[string]image.Registry{}
	for name, reg := range o.Config.Registries {
		registries[name] = image.Registry{Mirrors: reg.Mirrors, PlainHTTP: reg.PlainHTTP}
	}
	p.images, err = image.Open(ctx, image.Options{
		Root: filepath.Join(o.Root, "images"), Snapshotter: o.Config.Snapshotter, Registries: registries,
		DockerConfig: os.Getenv("DOCKER_CONFIG"), InUse: p.imageUsers, Logf: o.Logf,
	})
	if err != nil {
		return p, fmt.Errorf("open the image store: %w", err)
	}
	var pools []netdriver.Pool
	for _, pool := range o.Config.AddressPools {
		pools = append(pools, netdriver.Pool{Base: pool.Base, Size: pool.Size})
	}
	p.networks, err = drivers.Open(netdriver.Options{
		Root: filepath.Join(o.Root, "networks"), RunDir: o.RunDir, Seed: o.Root, AddressPools: pools, Logf: o.Logf,
	})
	if err != nil {
		return p, fmt.Errorf("open networks: %w", err)
	}
	if p.volumes, err = builtin.Open(voldriver.Options{Root: filepath.Join(o.Root, "volumes"), Logf: o.Logf}); err != nil {
		return p, fmt.Errorf("open volumes: %w", err)
	}
	programs := map[string]runtime.Program{}
	for name, r := range o.Config.Runtimes {
		programs[name] = runtime.Program{Path: r.Path, Args: r.Args}
	}
	p.engine, err = runtime.Open(runtime.Options{
		Root: o.Root, RunDir: o.RunDir, Images: p.images, ShimProgram: o.ShimProgram,
		Runtimes: programs, Runtime: o.Config.Runtime,
		LogMaxSize: o.Config.Logs.MaxSize, LogMaxFiles: o.Config.Logs.MaxFiles, LogRetain: o.Config.Logs.Retain, Logf: o.Logf,
	})
	if err != nil {
		return p, fmt.Errorf("open containers: %w", err)
	}
	if p.repositories, err = openGitOps(&backend{parts: p, options: o}); err != nil {
		return p, fmt.Errorf("open repositories: %w", err)
	}
	p.metrics.registry.MustRegister(p.repositories, containers{p})
	p.repositories.Restore() // secrets that a reboot took, before containers that need them start
	p.reconciler, err = reconciler.New(ctx, reconciler.Options{
		Root: o.Root, Engine: p.engine, Images: p.images, Networks: p.networks, Volumes: p.volumes, Logf: o.Logf, Acted: pauseAfter(ctx), Clock: clock{},
		Repaired: p.metrics.repaired,
	})
	return p, err
}

// imageUsers are the names of the containers made from an image.
func (p *parts) imageUsers(imageID string) []string {
	if p.engine == nil {
		return nil
	}
	var users []string
	for _, v := range p.engine.List("") {
		if v.ImageID == imageID {
			users = append(users, v.Name)
		}
	}
	return users
}

// close closes what is open, in the reverse order.
func (p *parts) close(logf func(string, ...any)) {
	if p.reconciler != nil {
		p.reconciler.Close()
	}
	if p.engine != nil {
		p.engine.Close()
	}
	if p.networks != nil {
		if err := p.networks.Close(); err != nil {
			logf("close networks: %v", err)
		}
	}
	if p.images != nil {
		if err := p.images.Close(); err != nil {
			logf("close the image store: %v", err)
		}
	}
}
