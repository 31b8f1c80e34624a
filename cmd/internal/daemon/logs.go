package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
)

// Logs sends what the selected containers printed: without Follow in the order of time; with it, each container's lines
// as they come, new containers of the services included, until ctx ends or nothing is left that could print.
func (b *backend) Logs(ctx context.Context, stack string, req api.LogRequest, send func(api.LogEntry) error) error {
	if req.Follow {
		return b.followLogs(ctx, stack, req, send)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var heads []*logStream
	for _, c := range b.reconciler.Containers(stack) {
		if selected(req, c) {
			heads = append(heads, b.stream(ctx, c, req))
		}
	}
	return merge(heads, send)
}

// merge sends the entries of streams that are each in order of time in the order of time.
func merge(streams []*logStream, send func(api.LogEntry) error) error {
	var heads []*logStream
	for _, s := range streams {
		if s.next() {
			heads = append(heads, s)
		} else if s.err != nil {
			return s.err
		}
	}
	for len(heads) > 0 {
		first := slices.MinFunc(heads, func(x, y *logStream) int { return x.head.Time.Compare(y.head.Time) })
		if err := send(first.head); err != nil {
			return err
		}
		if !first.next() {
			if first.err != nil {
				return first.err
			}
			heads = slices.DeleteFunc(heads, func(s *logStream) bool { return s == first })
		}
	}
	return nil
}

func selected(req api.LogRequest, c reconciler.Status) bool {
	if len(req.Containers) > 0 {
		return slices.ContainsFunc(req.Containers, func(ref string) bool { return ref == c.Name || strings.HasPrefix(c.ID, ref) })
	}
	if c.OneOff && !req.OneOff {
		return false
	}
	return len(req.Services) == 0 || slices.Contains(req.Services, c.Service)
}

func readOptions(req api.LogRequest) logs.Options {
	opts := logs.Options{Since: req.Since, Until: req.Until, Tail: req.Tail, Follow: req.Follow}
	switch {
	case req.Tail < 0:
		opts.Tail = 0
	case req.Tail == 0:
		opts.Tail = logs.TailNone
	}
	return opts
}

func entry(c reconciler.Status, e logs.Entry) api.LogEntry {
	line, whole := strings.CutSuffix(string(e.Line), "\n")
	return api.LogEntry{
		Container: c.Name, Service: c.Service, Replica: c.Replica, Time: e.Time, Stream: e.Stream, Line: line, Partial: !whole,
	}
}

// logStream is one container's entries, read ahead by a goroutine that ends with ctx.
type logStream struct {
	entries chan api.LogEntry
	head    api.LogEntry
	err     error
}

func (b *backend) stream(ctx context.Context, c reconciler.Status, req api.LogRequest) *logStream {
	s := &logStream{entries: make(chan api.LogEntry, 64)}
	go func() {
		defer close(s.entries)
		err := b.engine.Logs(ctx, c.ID, readOptions(req), func(e logs.Entry) error {
			select {
			case s.entries <- entry(c, e):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if !runtime.IsGone(err) { // a container that was removed meanwhile has nothing to say
			s.err = err
		}
	}()
	return s
}

func (s *logStream) next() (ok bool) {
	s.head, ok = <-s.entries
	return ok
}

// followLogs keeps one follower a container, over all its runs, until none of the containers may print any more.
func (b *backend) followLogs(ctx context.Context, stack string, req api.LogRequest, send func(api.LogEntry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &followers{backend: b, send: send, running: map[string]context.CancelFunc{}, cancel: cancel}
	defer f.wait.Wait()
	for first := true; ; first = false {
		changed := b.reconciler.Changed(stack)
		present := map[string]bool{}
		live := false
		for _, c := range b.reconciler.Containers(stack) {
			if !selected(req, c) {
				continue
			}
			present[c.ID] = true
			live = live || c.State == planner.Running || c.State == planner.Paused || c.State == planner.Restarting
			r := req
			if !first {
				r.Tail, r.Since = -1, time.Time{} // made while following: all of it
			}
			f.follow(ctx, c, r)
		}
		f.stop(func(id string) bool { return !live || !present[id] })
		if !live {
			f.wait.Wait()
			return ignoreCancel(context.Cause(ctx))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ignoreCancel(context.Cause(ctx))
		}
	}
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// followers are the readers of one Logs request.
type followers struct {
	backend *backend
	cancel  context.CancelCauseFunc
	wait    sync.WaitGroup
	running map[string]context.CancelFunc // by container id; used by followLogs alone

	mu   sync.Mutex
	send func(api.LogEntry) error
}

// follow starts to read a container's log, once.
func (f *followers) follow(ctx context.Context, c reconciler.Status, req api.LogRequest) {
	if f.running[c.ID] != nil {
		return
	}
	reading, stop := context.WithCancel(ctx)
	f.running[c.ID] = stop
	f.wait.Go(func() {
		if err := f.read(ctx, reading, c, req); err != nil && ctx.Err() == nil && !runtime.IsGone(err) {
			f.cancel(err)
		}
	})
}

// stop tells readers to send what is left and end.
func (f *followers) stop(which func(id string) bool) {
	for id, stop := range f.running {
		if which(id) {
			stop()
			delete(f.running, id)
		}
	}
}

// read sends a container's entries as they come until reading ends; then the rest that is in the log.
func (f *followers) read(ctx, reading context.Context, c reconciler.Status, req api.LogRequest) error {
	var last time.Time
	same := 0 // entries already sent that carry the time last
	forward := func(e logs.Entry) error {
		if e.Time.Equal(last) {
			same++
		} else {
			last, same = e.Time, 1
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.send(entry(c, e))
	}
	err := f.backend.engine.Logs(reading, c.ID, readOptions(req), forward)
	if reading.Err() == nil || ctx.Err() != nil {
		return err
	}
	rest := readOptions(req)
	rest.Follow = false
	skip := 0
	if !last.IsZero() {
		rest.Since, rest.Tail, skip = last, 0, same
	}
	return f.backend.engine.Logs(ctx, c.ID, rest, func(e logs.Entry) error {
		if skip > 0 && e.Time.Equal(last) {
			skip--
			return nil
		}
		return forward(e)
	})
}
