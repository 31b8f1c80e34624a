package gitops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
	"github.com/stack-run/stack/reconciler/gitops/webhook"
)

// Errors of a Controller.
var (
	ErrNotFound = errors.New("no such repository")
	ErrDeclared = errors.New("it is declared in a file")
	ErrExists   = errors.New("there is a repository of that name")
	// ErrSuspended answers a sync of what is suspended.
	ErrSuspended = errors.New("it is suspended")
)

// atOnce is how many repositories are reconciled at the same time.
const atOnce = 4

// Controller follows all repositories of a daemon.
type Controller struct {
	opts  Options
	slots *semaphore.Weighted
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	metrics *metrics
	hooks   *webhook.Handler
	news    chan struct{} // a place for each delivery on its way

	change    sync.Mutex // one change of the set of repositories at a time
	listening listener
	mu        sync.Mutex
	file      declare.File
	broken    error // of the declared file
	repos     map[string]*repository
}

// New opens what is kept. Nothing runs before Start.
func New(o Options) (*Controller, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	c := &Controller{opts: o, slots: semaphore.NewWeighted(atOnce), repos: map[string]*repository{}, metrics: newMetrics(),
		news: make(chan struct{}, pendingNews)}
	c.hooks = c.newHooks()
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Start follows what is declared and what was added, until Close.
func (c *Controller) Start() error {
	c.change.Lock()
	defer c.change.Unlock()
	entries, err := os.ReadDir(c.opts.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("gitops: %w", err)
	}
	c.reread()
	for _, e := range entries {
		def, ok, err := loadDefinition(filepath.Join(c.opts.Root, e.Name()))
		if err != nil {
			return fmt.Errorf("gitops %s: %w", e.Name(), err)
		}
		if _, declared := c.declared().Repositories[e.Name()]; ok && !declared {
			if err := c.begin(def, ""); err != nil {
				c.opts.Logf("gitops %s: %v", e.Name(), err)
			}
		}
	}
	c.followFile()
	c.sweepReleased()
	return nil
}

// patience is how long Close waits for actions that were begun.
const patience = 5 * time.Second

// Close ends what runs. What is in the middle goes on in the next daemon.
func (c *Controller) Close() {
	c.stop()
	c.change.Lock()
	c.listen("")
	c.change.Unlock()
	done := make(chan struct{})
	go func() {
		c.tasks.Wait()
		close(done)
	}()
	select {
	case <-done:
		c.sweepReleased()
	case <-time.After(patience):
		c.opts.Logf("gitops: something is still at work after %s; the next daemon goes on with it", patience)
	}
}

func (c *Controller) declared() declare.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

// begin follows one more repository; the caller holds change.
func (c *Controller) begin(def declare.Repository, declared string) error {
	r, err := c.newRepository(def, declared)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(c.ctx)
	r.stop = stop
	r.update(func(*status.Repository) {})
	c.mu.Lock()
	c.repos[def.Name] = r
	c.mu.Unlock()
	c.tasks.Go(func() { r.follow(ctx) })
	return nil
}

// end stops following; the caller holds change.
func (c *Controller) end(r *repository) {
	r.stop()
	<-r.done
	c.mu.Lock()
	delete(c.repos, r.name)
	c.mu.Unlock()
}

// reread applies the declared file; the caller holds change. A broken one changes nothing.
func (c *Controller) reread() {
	file, err := c.read()
	c.mu.Lock()
	c.broken = err
	if err == nil {
		c.file = file
	}
	c.mu.Unlock()
	if err != nil {
		c.opts.Logf("gitops: %v", err)
		return
	}
	c.listen(file.Listen)
	for _, r := range c.all() {
		def, still := file.Repositories[r.name]
		switch {
		case r.declared == "" && !still:
			r.mu.Lock()
			r.labels = file.Labels
			r.mu.Unlock()
		case !still:
			c.end(r)
			c.release(r)
		case digest(def.WithDefaults()) != digest(r.definition()) || r.declared == "":
			c.end(r)
		default:
			r.mu.Lock()
			r.labels = file.Labels
			r.mu.Unlock()
			r.ask(request{by: "declared file"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Repositories)) {
		if c.find(name) != nil {
			continue
		}
		if err := c.begin(file.Repositories[name], c.opts.File); err != nil {
			c.opts.Logf("gitops %s: %v", name, err)
		}
	}
}

func (c *Controller) read() (declare.File, error) { return declare.Load(c.opts.File) }

func (c *Controller) find(name string) *repository {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.repos[name]
}

func (c *Controller) all() []*repository {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*repository
	for _, name := range slices.Sorted(maps.Keys(c.repos)) {
		all = append(all, c.repos[name])
	}
	return all
}

// ready tells whether a repository is converged.
func (c *Controller) ready(name string) bool {
	r := c.find(name)
	if r == nil {
		return false
	}
	s := r.snapshot()
	return s.Condition(status.Ready).Status == status.True
}

// owner is the other repository that a stack comes from, empty for none.
func (c *Controller) owner(stack, self string) string {
	for _, r := range c.all() {
		if r.name == self {
			continue
		}
		s := r.snapshot()
		if s.Stack(stack) != nil {
			return r.name
		}
	}
	return ""
}

// environ is what stack files see of the daemon's environment: nothing that differs between two starts of it.
func (c *Controller) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
}

// finished tells those who wait for a repository, and those who want to know, how an attempt ended.
func (c *Controller) finished(x *attempt, f *failure) {
	c.metrics.count(x, f, time.Since(x.began).Seconds())
	c.tellOthers(x, f)
	if f == nil {
		for _, r := range c.all() {
			s := r.snapshot()
			if slices.Contains(r.definition().DependsOn, x.name) && s.Condition(status.Ready).Reason == status.DependencyNotReady {
				r.ask(request{by: "dependency"})
			}
		}
	}
}

// release lets go of a repository's stacks: they run on, and its files stay until no container has a use for them. What
// containers wrote into folders that are not the repository's stays for good, unless its removal was asked for.
func (c *Controller) release(r *repository) {
	c.metrics.forget(r.name)
	r.update(func(s *status.Repository) { s.Released, s.Stacks = true, nil })
	os.Remove(filepath.Join(r.dir, definitionFile)) // the state says released
}

// sweepReleased removes the folders of released repositories that nothing mounts any more.
func (c *Controller) sweepReleased() {
	entries, err := os.ReadDir(c.opts.Root)
	if err != nil {
		return
	}
	mounted, err := c.opts.Stacks.Mounted()
	if err != nil {
		c.opts.Logf("gitops: %v", err)
		return
	}
	for _, e := range entries {
		dir := filepath.Join(c.opts.Root, e.Name())
		if s, err := loadState(dir, e.Name()); c.find(e.Name()) != nil || err != nil || !s.Released {
			continue
		}
		used := slices.ContainsFunc(slices.Collect(maps.Keys(mounted)), func(file string) bool {
			return below(dir, file) || below(c.runDir(e.Name()), file)
		})
		if !used {
			if err := errors.Join(os.RemoveAll(c.runDir(e.Name())), removeButData(dir)); err != nil {
				c.opts.Logf("gitops: %v", err)
			}
			os.Remove(c.opts.RunDir) // unless others have secrets in it
		}
	}
}

func below(dir, file string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && filepath.IsLocal(rel)
}

// removeButData removes a repository's folder, but for data that containers wrote.
func removeButData(dir string) error {
	if err := os.Remove(filepath.Join(dir, checkout.Data)); err == nil || errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(dir) // there is none
	}
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		if e.Name() != checkout.Data {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
