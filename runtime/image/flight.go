package image

import (
	"context"
	"sync"
)

// flights shares work in progress: callers that ask for the same key while it is being worked on wait for one result, and
// all see its progress. The work runs under a context of its own, so that one caller's cancellation does not take it from
// the others; it is cancelled when the last caller has gone.
type flights[V any] struct {
	running *sync.WaitGroup // counts the work under way
	mu      sync.Mutex
	open    map[string]*flight[V]
}

type flight[V any] struct {
	done      chan struct{}
	val       V
	err       error
	cancel    context.CancelCauseFunc
	waiting   int
	cancelled bool

	subsMu sync.Mutex
	subs   []func(Progress)
}

// do returns the result of fn for key. base bounds the work's life; sub, which may be nil, hears of its progress.
func (f *flights[V]) do(ctx, base context.Context, key string, sub func(Progress), fn func(context.Context, func(Progress)) (V, error)) (V, error) {
	fl, err := f.join(ctx, base, key, sub, fn)
	if err == nil {
		select {
		case <-fl.done:
			return fl.val, fl.err
		case <-ctx.Done():
			f.leave(fl, context.Cause(ctx))
			err = context.Cause(ctx)
		}
	}
	var zero V
	return zero, err
}

func (f *flights[V]) join(ctx, base context.Context, key string, sub func(Progress), fn func(context.Context, func(Progress)) (V, error)) (*flight[V], error) {
	for {
		f.mu.Lock()
		fl := f.open[key]
		if fl == nil {
			fl = f.start(base, key, fn)
		}
		if !fl.cancelled {
			fl.waiting++
			fl.subscribe(sub)
			f.mu.Unlock()
			return fl, nil
		}
		f.mu.Unlock()
		// The old work is on its way out and may still hold what new work needs.
		select {
		case <-fl.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (f *flights[V]) start(base context.Context, key string, fn func(context.Context, func(Progress)) (V, error)) *flight[V] {
	work, cancel := context.WithCancelCause(base)
	fl := &flight[V]{done: make(chan struct{}), cancel: cancel}
	if f.open == nil {
		f.open = map[string]*flight[V]{}
	}
	f.open[key] = fl
	f.running.Add(1)
	go func() {
		defer f.running.Done()
		fl.val, fl.err = fn(work, fl.report)
		cancel(nil)
		f.mu.Lock()
		delete(f.open, key)
		f.mu.Unlock()
		close(fl.done)
	}()
	return fl
}

// leave takes one caller out; the last one ends the work and waits until it has let go of all it holds.
func (f *flights[V]) leave(fl *flight[V], cause error) {
	f.mu.Lock()
	fl.waiting--
	last := fl.waiting == 0
	fl.cancelled = fl.cancelled || last
	f.mu.Unlock()
	if last {
		fl.cancel(cause)
		<-fl.done
	}
}

func (fl *flight[V]) subscribe(sub func(Progress)) {
	if sub == nil {
		return
	}
	fl.subsMu.Lock()
	defer fl.subsMu.Unlock()
	fl.subs = append(fl.subs, sub)
}

func (fl *flight[V]) report(p Progress) {
	fl.subsMu.Lock()
	subs := fl.subs
	fl.subsMu.Unlock()
	for _, sub := range subs {
		sub(p)
	}
}
