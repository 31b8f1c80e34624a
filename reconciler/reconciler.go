// Package reconciler makes what is desired true and keeps it so: it observes, asks planner for a plan, executes it, and
// runs restart policies, health checks and waits for conditions.
//
// It knows time and concurrency, not how a container, network or volume is made: runtime, netdriver and voldriver do.
package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	Clock    Clock // by which jobs run; nil: the host's
	// Acted, where it is given, is called after each action, before anything that comes after it begins.
	Acted func()
	// Repaired hears of each action that the loop took by itself, and how it ended; nil where nobody counts.
	Repaired func(stack, action string, err error)
}

// Reconciler drives all stacks of one daemon.
type Reconciler struct {
	engine    *runtime.Engine
	images    *image.Store
	networks  *netdriver.Manager
	volumes   *voldriver.Store
	root      string
	logf      func(format string, args ...any)
	repaired  func(stack, action string, err error)
	links     *linker
	jobs      *jobs
	acted     func()
	fileWatch *files

	// ctx ends with the daemon; what runs on its own (restarts, health checks) ends with it.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	taken  chan struct{} // closed when what earlier daemons have left is taken over

	mu     sync.Mutex
	stacks map[string]*stack
}

// New takes over what the records and the shims tell, and starts to keep it: restart policies, health checks.
func New(ctx context.Context, opts Options) (*Reconciler, error) {
	r := &Reconciler{
		engine: opts.Engine, images: opts.Images, networks: opts.Networks, volumes: opts.Volumes,
		root: opts.Root, logf: opts.Logf, acted: opts.Acted, repaired: opts.Repaired,
		stacks: map[string]*stack{}, taken: make(chan struct{}),
	}
	if r.repaired == nil {
		r.repaired = func(string, string, error) {}
	}
	if r.logf == nil {
		r.logf = func(string, ...any) {}
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.volumes.Process = r.processOf
	r.links = newLinker(context.WithoutCancel(ctx), r.networks) // a batch serves more than one caller
	r.jobs = r.newJobs(opts.Clock)
	r.tasks.Go(r.watch)
	if err := errors.Join(r.watchFiles(), r.watchMounts()); err != nil {
		r.Close()
		return nil, err
	}
	if err := r.takeover(ctx); err != nil {
		r.Close()
		return nil, err
	}
	r.openJobs() // before the loops see them
	close(r.taken)
	return r, nil
}

// closePatience is how long Close waits for what is at work.
const closePatience = 5 * time.Second

// Close stops watching. Containers go on. What hangs in the kernel or in a shim is left behind: the next daemon finds it
// in the records, as after a crash.
func (r *Reconciler) Close() {
	r.mu.Lock()
	r.cancel()
	if r.fileWatch != nil {
		r.fileWatch.n.Close()
	}
	stacks := slices.Collect(maps.Values(r.stacks))
	r.mu.Unlock()
	for _, s := range stacks { // not with mu: who holds a keeper may be about to spawn
		s.stopTimers()
	}
	done := make(chan struct{})
	go func() {
		r.tasks.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closePatience):
		r.logf("something is still at work after %s; the next daemon takes it over", closePatience)
	}
}

// spawn runs something on its own until it ends; after Close it does nothing.
func (r *Reconciler) spawn(task func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() == nil {
		r.tasks.Go(task)
	}
}

// longestAction bounds what can't be cancelled by its caller.
const longestAction = 5 * time.Minute

// begun returns a context for work that is finished, or undone, once it has begun: cancelled in the middle, nobody would know
// what is there. It outlives ctx, and ends with the daemon or when a shim or the kernel hangs.
func (r *Reconciler) begun(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestAction)
	stop := context.AfterFunc(r.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// stack is one stack's part of the reconciler.
type stack struct {
	name string
	// op is held by the operation that changes the stack: one at a time.
	op chan struct{}

	mu      sync.Mutex
	desired *spec.Stack // of the newest revision
	newest  Revision    // without its stack; Number 0 when there is none
	sound   fileState   // of the newest revision's file when it was last known to say so
	loaded  bool
	keepers map[string]*keeper // by container id
	intent  *intent            // nil: not read yet
	changed chan struct{}      // closed and made anew at each change of a container

	loop     loop
	findings findings
	awake    func() // wakes the loop

	held    map[string]holding // by service
	traffic sync.Mutex         // serialises who of a service serves
}

func (r *Reconciler) stack(name string) *stack {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.stacks[name]
	if !ok {
		s = &stack{name: name, op: make(chan struct{}, 1), keepers: map[string]*keeper{}, changed: make(chan struct{})}
		s.awake = func() { r.changed(s) }
		r.stacks[name] = s
	}
	return s
}

// lock waits for the stack's operation to end and takes its place until the returned function is called.
func (s *stack) lock(ctx context.Context, sink Sink) (unlock func(), err error) {
	unlock = func() {
		<-s.op
		s.notify()
	}
	select {
	case s.op <- struct{}{}:
		return unlock, nil
	default:
	}
	defer s.loop.want()()
	if sink != nil {
		sink(Event{Kind: "note", Time: time.Now(), Address: "stack." + s.name, Text: "waiting for the operation at work on this stack to end"})
	}
	select {
	case s.op <- struct{}{}:
		return unlock, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("stack %s: another operation is running: %w", s.name, ctx.Err())
	}
}

// Busy tells whether an operation is changing the stack. Its end counts as a change of a container.
func (r *Reconciler) Busy(name string) bool { return len(r.stack(name).op) > 0 }

// notify wakes those who wait for a change of the stack's containers.
func (s *stack) notify() {
	defer s.awake()
	s.tell()
}

// tell is notify for what concerns nobody but those who look on.
func (s *stack) tell() {
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

// keeper returns what is kept of a container; it is made when there is none.
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

// peek tells what is kept of a container, which need not be there any more.
func (s *stack) peek(id string) (restarting bool, nextTry time.Time, last *Probe) {
	s.mu.Lock()
	k := s.keepers[id]
	s.mu.Unlock()
	if k == nil {
		return false, time.Time{}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if nextTry = k.nextTry; nextTry.IsZero() {
		nextTry = k.nextCure
	}
	return k.restarting, nextTry, k.probes.latest()
}

// hand leaves a container's restart to the loop: it ended while no daemon looked.
func (k *keeper) hand() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handed = true
}

// handed tells whether a container's restart is the loop's to plan.
func (s *stack) handed(id string) bool {
	s.mu.Lock()
	k := s.keepers[id]
	s.mu.Unlock()
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.handed
}

// drop forgets a container that was removed.
func (s *stack) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keepers, id)
}

func (s *stack) stopTimers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keepers {
		k.rest()
	}
	s.loop.mu.Lock()
	defer s.loop.mu.Unlock()
	if s.loop.alarm != nil {
		s.loop.alarm.Stop()
	}
}

// keeper is what the reconciler keeps of one container beside its record: the restart to come and the health check.
type keeper struct {
	// life serialises what decides about the container's life: starts by operations and by restarts, what follows its
	// end, the taking down of its network, its removal. It is taken before any lock of the engine.
	life sync.Mutex

	mu         sync.Mutex
	timer      *time.Timer
	nextTry    time.Time
	restarting bool // a restart is due, or on its way
	handed     bool // its restart is due, and the loop's to plan
	failures   int  // restarts in a row that did not last
	// ended is the start of the last run whose end was handled: an end is reported more than once when shims change.
	ended  time.Time
	hooks  *hooking // the post_start hooks at work
	health context.CancelFunc
	probes probeLog
	// nextCure is when the container is restarted because it is unhealthy.
	nextCure time.Time
	// arriving says that somebody waits for it to be ready to serve.
	arriving bool
}

// rest cancels the restart to come and the health check.
func (k *keeper) rest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop()
	k.restarting, k.handed = false, false
}

// begin makes way for a start. One by the restart policy stays a restart until its outcome is known.
func (k *keeper) begin(again bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop()
	k.handed = false
	if !again {
		k.restarting, k.failures = false, 0
	}
}

// started is the good end of a start.
func (k *keeper) started() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.restarting = false
}

// stop ends the timer and the health check; the caller holds mu.
func (k *keeper) stop() {
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	k.nextTry, k.nextCure = time.Time{}, time.Time{}
	k.endProbes()
}
