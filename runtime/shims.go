package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stack-run/stack/runtime/shim"
)

// stackShim is the connection to one stack's shim. ready is closed when client or err is set.
type stackShim struct {
	ready  chan struct{}
	client *shim.Client
	err    error
	once   sync.Once
	// gone is closed when the connection has ended and what ran there is known to be lost.
	gone chan struct{}
}

func (s *stackShim) close() {
	<-s.ready
	if s.client != nil {
		s.once.Do(func() { s.client.Close() })
	}
}

// shim returns the connection to a stack's shim. When none lives one is started, or with spawn false nil is returned.
// Concurrent callers share one attempt, which goes on when one of them gives up.
func (e *Engine) shim(ctx context.Context, stack string, spawn bool) (*stackShim, error) {
	for {
		e.mu.Lock()
		if e.ctx.Err() != nil {
			e.mu.Unlock()
			return nil, errors.New("the daemon is shutting down")
		}
		s, ok := e.shims[stack]
		if !ok {
			s = &stackShim{ready: make(chan struct{}), gone: make(chan struct{})}
			e.shims[stack] = s
			go e.connect(stack, s, spawn)
		}
		e.mu.Unlock()
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if s.err == nil {
			return s, nil
		}
		if !errors.Is(s.err, errNoShim) {
			return nil, fmt.Errorf("shim of stack %s: %w", stack, s.err)
		}
		if !spawn {
			return nil, nil
		}
		// Another caller found no shim and did not want one: try again with one.
	}
}

var errNoShim = errors.New("no shim is running")

// connectPatience is how long a shim may take to answer. One that starts ends first what a dead one left running.
const connectPatience = time.Minute

func (e *Engine) connect(stack string, s *stackShim, spawn bool) {
	defer close(s.ready)
	ctx, cancel := context.WithTimeout(e.ctx, connectPatience)
	defer cancel()
	if s.err = e.open(ctx, stack, s, spawn); s.err == nil {
		return
	}
	if s.client != nil {
		s.client.Close()
	}
	e.mu.Lock()
	if e.shims[stack] == s {
		delete(e.shims, stack)
	}
	e.mu.Unlock()
}

// open dials or starts the shim and takes over what it knows.
func (e *Engine) open(ctx context.Context, stack string, s *stackShim, spawn bool) (err error) {
	if s.client, err = e.dial(ctx, stack, spawn); err != nil {
		return err
	}
	// The watch lives as long as the connection.
	events, err := s.client.Watch(e.ctx)
	if err != nil {
		return err
	}
	states, err := s.client.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, state := range states {
		known[state.ID] = true
		e.take("state", state)
	}
	e.lost(e.ranIn(stack, known), HostRestarted) // a new shim that found no trace of them
	go e.follow(stack, s, events)
	return nil
}

func (e *Engine) dial(ctx context.Context, stack string, spawn bool) (*shim.Client, error) {
	dir := e.shimDir(stack)
	client, err := shim.Dial(ctx, filepath.Join(dir, shim.SocketName))
	if err == nil {
		return client, nil
	}
	if !spawn {
		return nil, errNoShim
	}
	if err := os.MkdirAll(e.stackDir(stack), 0o700); err != nil {
		return nil, err
	}
	return shim.Spawn(ctx, shim.SpawnOptions{
		Program: e.opts.ShimProgram,
		Dir:     dir,
		DNS:     filepath.Join(e.opts.RunDir, "dns"),
	})
}

// take records what a shim reported and passes on what is news.
func (e *Engine) take(kind string, state shim.State) {
	c, err := e.get(state.ID)
	if err != nil {
		return // removed meanwhile
	}
	if c.setState(state) {
		e.tell(Event{Kind: kind, Container: c.View()})
	}
}

func (e *Engine) tell(ev Event) {
	select {
	case e.events <- ev:
	case <-e.ctx.Done():
	}
}

// follow takes over what the shim reports until the connection ends.
func (e *Engine) follow(stack string, s *stackShim, events <-chan shim.Event) {
	for ev := range events {
		e.take(ev.Kind, ev.State)
	}
	if e.ctx.Err() != nil {
		return
	}
	// Whoever finds the connection gone makes a new one: what it starts is not lost.
	ran := e.ranIn(stack, nil)
	e.mu.Lock()
	if e.shims[stack] == s {
		delete(e.shims, stack)
	}
	e.mu.Unlock()
	s.close()
	e.lost(ran, ShimLost)
	close(s.gone)
}

// Sync makes sure that what is known of a stack's containers is not older than the call: a shim that was killed a moment
// ago may not have been missed yet. It costs one round trip to the shim, nothing where none runs.
func (e *Engine) Sync(ctx context.Context, stack string) error {
	e.mu.Lock()
	s := e.shims[stack]
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.err != nil {
		return nil // the caller finds out when it needs the shim
	}
	states, err := s.client.List(ctx)
	if err == nil {
		for _, state := range states {
			e.take(shim.KindState, state)
		}
		return nil
	}
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ranIn are the containers of a stack that run as far as is known, but for some.
func (e *Engine) ranIn(stack string, but map[string]bool) []View {
	return slices.DeleteFunc(e.List(stack), func(v View) bool { return !v.Running() || but[v.ID] })
}

// lost reports containers that ran and that no shim knows any more: their processes are as good as dead, the next shim
// ends them. After a reboot there is nothing left of the shim's folder either.
func (e *Engine) lost(ran []View, why string) {
	for _, v := range ran {
		c, err := e.get(v.ID)
		if err != nil {
			continue
		}
		state := v.State
		state.Status, state.Error, state.ExitCode, state.Netns, state.PID = shim.Exited, why, 137, "", 0
		state.Finished = time.Now()
		if c.setState(state) {
			e.tell(Event{Kind: "lost", Container: c.View()})
		}
	}
}

// ShimLost is State.Error of a container that ended with its shim.
const ShimLost = "shim lost"

// HostRestarted is State.Error of a container that ran when its host went down.
const HostRestarted = "host restarted"

// Takeover connects to the shims that live and learns what their containers did meanwhile. A stack whose shim died with
// containers gets a new shim, which ends what is left of them.
func (e *Engine) Takeover(ctx context.Context) error {
	stacks := map[string]bool{} // whether containers of it ran when last seen
	for _, v := range e.List("") {
		stacks[v.Stack] = stacks[v.Stack] || v.Running()
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(stacks))
	for stack, ran := range stacks {
		wg.Go(func() {
			_, err := e.shim(ctx, stack, ran || e.hadShim(stack))
			errs <- err
		})
	}
	left, err := os.ReadDir(filepath.Join(e.opts.RunDir, "shims"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, dir := range left {
		if _, known := stacks[dir.Name()]; known || !dir.IsDir() {
			continue
		}
		// The stack was being removed when the daemon died.
		if err := e.stopShim(ctx, dir.Name()); err != nil {
			e.opts.Logf("stop the shim of stack %s: %v", dir.Name(), err)
		}
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// hadShim tells whether a shim of the stack lives, or died without having been told to end.
func (e *Engine) hadShim(stack string) bool {
	_, err := os.Stat(e.shimDir(stack))
	return err == nil
}

// stopShim ends a stack's shim, which must have no container left.
func (e *Engine) stopShim(ctx context.Context, stack string) error {
	s, err := e.shim(ctx, stack, e.hadShim(stack))
	if err != nil {
		return err
	}
	if s != nil {
		e.mu.Lock()
		delete(e.shims, stack)
		e.mu.Unlock()
		if err := s.client.Shutdown(ctx, true); err != nil {
			return err
		}
		s.close()
	}
	return os.RemoveAll(e.shimDir(stack))
}

func (e *Engine) shimDir(stack string) string { return filepath.Join(e.opts.RunDir, "shims", stack) }

// cgroupRoot is the folder of this daemon's containers in every cgroup hierarchy.
func (e *Engine) cgroupRoot() string {
	sum := sha256.Sum256([]byte(e.opts.Root))
	return "stack-" + hex.EncodeToString(sum[:4])
}
