// Package runtime makes and runs containers: records, root filesystems, bundles, shims.
//
// The Engine keeps one record a container on disk and what the shims report of its process in memory. It knows nothing of
// desired states, order or policy: it creates, starts, stops and removes what it is told to, and sends an Event for
// each change it sees.
package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/shim"
)

// Errors are classified by these, by the shim's and by those of the packages below.
var (
	ErrNotFound   = errors.New("no such container")
	ErrNotRunning = errors.New("container is not running")
	ErrRunning    = errors.New("container is running")
	ErrRuntime    = errors.New("no such runtime")
	ErrStopped    = errors.New("container was stopped meanwhile")
)

// Images is what the engine needs of the image store.
type Images interface {
	Get(ctx context.Context, refOrID, platform string) (image.Image, error)
	Rootfs(ctx context.Context, imageID, containerID, dir string) ([]image.Mount, error)
	ReleaseRootfs(ctx context.Context, containerID, dir string) error
	ReadFile(ctx context.Context, imageID, path string) ([]byte, error)
}

// Program is an OCI runtime program.
type Program struct {
	Path string
	Args []string
}

// Options of an engine.
type Options struct {
	Root, RunDir string
	Images       Images
	ShimProgram  string             // path of stack-shim
	Runtimes     map[string]Program // by the name that `runtime:` uses
	Runtime      string             // the default: "" or "embedded", or a name of Runtimes
	LogMaxSize   int64              // bytes; what `logging:` leaves out
	LogMaxFiles  int
	LogRetain    time.Duration // how long the logs of replaced containers are kept; 0: as long as their number allows
	Logf         func(format string, args ...any)
}

// Engine makes and runs the containers of one daemon.
type Engine struct {
	opts   Options
	host   bundle.Host
	events chan Event

	// ctx ends with Close: connections that are being made and events that nobody reads end with it.
	ctx    context.Context
	cancel context.CancelFunc

	mu         sync.Mutex
	containers map[string]*Container
	shims      map[string]*stackShim
	images     map[string]image.Image // by id, which says all about their configuration; a cache

	mapping sync.Mutex
	mapped  bool // containers with ids of their own are known to work here
}

// Event is a change of a container that the engine saw: its process started or ended, or its shim was lost.
type Event struct {
	Kind      string // start, exit, oom, pause, resume, lost
	Container View
}

// Open reads the records. Nothing is started, no shim is asked: Takeover does that.
func Open(opts Options) (*Engine, error) {
	if opts.Logf == nil {
		opts.Logf = func(string, ...any) {}
	}
	host, err := bundle.DetectHost()
	if err != nil {
		return nil, fmt.Errorf("detect what this host offers to containers: %w", err)
	}
	host.Init = opts.ShimProgram
	if host.AppArmor != "" {
		if err := bundle.LoadAppArmor(); err != nil {
			opts.Logf("containers run without an AppArmor profile: %v", err)
			host.AppArmor = ""
		}
	}
	e := &Engine{
		opts:       opts,
		host:       host,
		events:     make(chan Event, 256),
		containers: map[string]*Container{},
		shims:      map[string]*stackShim{},
		images:     map[string]image.Image{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	records, err := readRecords(opts.Root, opts.Logf)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		e.add(*r)
	}
	return e, nil
}

// Close drops the connections to the shims; containers go on.
func (e *Engine) Close() {
	e.mu.Lock()
	e.cancel()
	shims := e.shims
	e.shims = map[string]*stackShim{}
	e.mu.Unlock()
	for _, s := range shims {
		s.close()
	}
}

// Events are the changes seen, in order for each container. It must be read.
func (e *Engine) Events() <-chan Event { return e.events }

// CgroupV2 tells which cgroup hierarchy containers live in.
func (e *Engine) CgroupV2() bool { return e.host.CgroupV2 }

func (e *Engine) add(r Record) *Container {
	c := &Container{
		dir: e.containerDir(r.Stack, r.ID), stack: r.Stack, service: r.Service,
		record: r, changed: make(chan struct{}), placing: placing{turn: make(chan struct{}, 1)},
	}
	c.state = shim.State{ID: r.ID}
	if s, err := shim.ReadState(c.dir); err == nil {
		c.state = s
	}
	e.mu.Lock()
	e.containers[r.ID] = c
	e.mu.Unlock()
	return c
}

func (e *Engine) get(id string) (*Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.containers[id]
	if !ok {
		return nil, fmt.Errorf("container %.12s: %w", id, ErrNotFound)
	}
	return c, nil
}

// Get returns one container.
func (e *Engine) Get(id string) (View, error) {
	c, err := e.get(id)
	if err != nil {
		return View{}, err
	}
	return c.View(), nil
}

// List returns the containers of a stack, or of all stacks with an empty name, ordered by name.
func (e *Engine) List(stack string) []View { return e.Service(stack, "") }

// Service returns the containers of one service of a stack, or with an empty name of all of them, ordered by name.
func (e *Engine) Service(stack, service string) []View {
	e.mu.Lock()
	var some []*Container
	for _, c := range e.containers {
		if (stack == "" || c.stack == stack) && (service == "" || c.service == service) {
			some = append(some, c)
		}
	}
	e.mu.Unlock()
	byName(some)
	views := make([]View, len(some))
	for i, c := range some {
		views[i] = c.View()
	}
	return views
}

// byName sorts containers by name; names are looked up once, since one may change meanwhile.
func byName(some []*Container) {
	names := make(map[*Container]string, len(some))
	for _, c := range some {
		names[c] = c.name()
	}
	slices.SortFunc(some, func(a, b *Container) int {
		return cmp.Or(strings.Compare(names[a], names[b]), strings.Compare(a.stack, b.stack))
	})
}

// Update changes a container's record.
func (e *Engine) Update(id string, change func(*Record)) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	return c.update(change)
}

func (e *Engine) stackDir(stack string) string { return filepath.Join(e.opts.Root, "stacks", stack) }

func (e *Engine) containerDir(stack, id string) string {
	return filepath.Join(e.stackDir(stack), "containers", id)
}

func (e *Engine) secretsDir(r *Record) string {
	return filepath.Join(e.opts.RunDir, "secrets", r.Stack, r.ID)
}

// program finds the OCI runtime program for a service's `runtime:`; the zero Program is libcontainer in the shim.
func (e *Engine) program(name string) (Program, error) {
	if name == "" {
		name = e.opts.Runtime
	}
	switch name {
	case "", "embedded", "runc", "io.containerd.runc.v2":
		if p, ok := e.opts.Runtimes[name]; ok {
			return p, nil
		}
		return Program{}, nil
	}
	p, ok := e.opts.Runtimes[name]
	if !ok {
		return Program{}, fmt.Errorf("runtime %q: %w; name it under `runtimes:` in the host's configuration, or leave `runtime:` out", name, ErrRuntime)
	}
	if _, err := os.Stat(p.Path); err != nil {
		return Program{}, fmt.Errorf("runtime %q: %w: %w", name, ErrRuntime, err)
	}
	return p, nil
}

// cachedImages bounds the cache of images; a host with more in use looks some of them up again.
const cachedImages = 256

// Image returns the image that a container was made from. What its id stands for never changes, so it is looked up once;
// names and sizes may be those of that time.
func (e *Engine) Image(ctx context.Context, id string) (image.Image, error) {
	e.mu.Lock()
	img, ok := e.images[id]
	e.mu.Unlock()
	if ok {
		return img, nil
	}
	img, err := e.opts.Images.Get(ctx, id, "")
	if err != nil {
		return image.Image{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.images) >= cachedImages {
		clear(e.images)
	}
	e.images[id] = img
	return img, nil
}

// imageConfig returns the configuration of the image a container was made from.
func (e *Engine) imageConfig(ctx context.Context, r *Record) (ocispec.ImageConfig, error) {
	img, err := e.Image(ctx, r.ImageID)
	return img.Config.ImageConfig, err
}
