// Package reconciler makes what is desired true and keeps it so: it observes, asks planner for a plan, executes it, and
// runs restart policies, health checks and waits for conditions.
//
// It knows time and concurrency, not how a container, network or volume is made: runtime, netdriver and voldriver do.
package reconciler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// Options of a reconciler: the parts it drives, opened and closed by the caller.
type Options struct {
	Root     string
	Engine   *runtime.Engine
	Images   *image.Store
	Networks *netdriver.Manager
	Volumes  *voldriver.Store
	Logf     func(format string, args ...any)
}

// Reconciler drives all stacks of one daemon.
type Reconciler struct {
	engine   *runtime.Engine
	images   *image.Store
	networks *netdriver.Manager
	volumes  *voldriver.Store
	root     string
	logf     func(format string, args ...any)
	links    *linker

	// ctx ends with the daemon; what runs on its own (restarts, health checks) ends with it.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex
	stacks map[string]*stack
}

// New takes over what the records and the shims tell, and starts to keep it: restart policies, health checks.
func New(ctx context.Context, opts Options) (*Reconciler, error) {
	r := &Reconciler{
		engine: opts.Engine, images: opts.Images, networks: opts.Networks, volumes: opts.Volumes,
		root: opts.Root, logf: opts.Logf,
		stacks: map[string]*stack{},
	}
	if r.logf == nil {
		r.logf = func(string, ...any) {}
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.links = newLinker(context.WithoutCancel(ctx), r.networks) // a batch serves more than one caller
	r.tasks.Go(r.watch)
	if err := r.takeover(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close stops watching. Containers go on.
func (r *Reconciler) Close() {
	r.cancel()
	r.mu.Lock()
	for _, s := range r.stacks {
		s.stopTimers()
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

// stack is one stack's part of the reconciler.
type stack struct {
	name string
	// op is held by the operation that changes the stack: one at a time.
	op chan struct{}

	mu        sync.Mutex
	desired   *spec.Stack
	loaded    bool
	keepers   map[string]*keeper // by container id
	changed   chan struct{}      // closed and made anew at each change of a container
	listeners map[chan struct{}]bool
}

func (r *Reconciler) stack(name string) *stack {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.stacks[name]
	if !ok {
		s = &stack{name: name, op: make(chan struct{}, 1), keepers: map[string]*keeper{}, changed: make(chan struct{})}
		r.stacks[name] = s
	}
	return s
}

// lock waits for the stack's operation to end and takes its place until the returned function is called.
func (s *stack) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.op <- struct{}{}:
		return func() { <-s.op }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("stack %s: another operation is running: %w", s.name, ctx.Err())
	}
}

// notify wakes those who wait for a change of the stack's containers.
func (s *stack) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of a container of the stack.
func (r *Reconciler) Changed(name string) <-chan struct{} {
	s := r.stack(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *stack) keeper(id string) *keeper {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keepers[id]
	if !ok {
		k = &keeper{}
		s.keepers[id] = k
	}
	return k
}

func (s *stack) stopTimers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keepers {
		k.rest()
	}
}

// keeper is what the reconciler keeps of one container beside its record: the restart to come and the health check.
type keeper struct {
	// start serialises starts and the taking down of the network, which come from operations and from restarts.
	start sync.Mutex

	mu       sync.Mutex
	timer    *time.Timer
	nextTry  time.Time
	failures int // restarts in a row that did not last
	// ended is the start of the last run whose end was handled: an end is reported more than once when shims change.
	ended  time.Time
	health context.CancelFunc
}

// rest cancels the restart to come and the health check.
func (k *keeper) rest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	k.nextTry = time.Time{}
	if k.health != nil {
		k.health()
		k.health = nil
	}
}

func (k *keeper) next() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nextTry
}
