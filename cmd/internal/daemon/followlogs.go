package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
)

// followLogs sends what replaced containers have left, then keeps one follower a container, over all its runs, until none of
// the containers may print any more.
func (b *backend) followLogs(ctx context.Context, stack string, req api.LogRequest, send func(api.LogEntry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &followers{backend: b, send: send, running: map[string]context.CancelFunc{}, known: map[string]bool{}, cancel: cancel}
	defer f.wait.Wait()
	for first := true; ; first = false {
		changed := b.reconciler.Changed(stack)
		live, replaced, err := b.logSources(stack, req)
		if err != nil {
			return err
		}
		if err := f.takeUp(ctx, req, first, live, replaced); err != nil {
			return ignoreCancel(err)
		}
		// While something is being done to the stack, what ended may be about to come back as another container.
		printing := len(req.Containers) == 0 && b.reconciler.Busy(stack)
		present := map[string]bool{}
		for _, s := range live {
			present[s.id] = true
			printing = printing || s.printing
		}
		f.stop(func(id string) bool { return !printing || !present[id] })
		if !printing {
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
	known   map[string]bool               // ids whose log is read, or was; likewise

	mu   sync.Mutex
	send func(api.LogEntry) error
}

// takeUp begins to read the logs that are not being read yet. At first it is as the request says; what comes while following
// is read from its beginning, be it that it was replaced between two looks.
func (f *followers) takeUp(ctx context.Context, req api.LogRequest, first bool, live, replaced []logSource) error {
	if first {
		for _, s := range replaced {
			f.known[s.id] = true
		}
		wanted, err := f.backend.tails(ctx, req, live, replaced)
		if err == nil {
			err = f.backend.mergeLogs(ctx, wanted, f.one)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range replaced {
		if f.known[s.id] {
			continue
		}
		f.known[s.id] = true
		s.options = logs.Options{Until: req.Until}
		if err := f.backend.readLog(ctx, s, func(e logs.Entry) error { return f.one(s.entry(e)) }); err != nil {
			return err
		}
	}
	for _, s := range live {
		if !first {
			s.options.Tail, s.options.Since = 0, time.Time{}
		}
		f.follow(ctx, s)
	}
	return nil
}

// one sends one entry, in turn with the others.
func (f *followers) one(e api.LogEntry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.send(e)
}

// follow starts to read a container's log, once.
func (f *followers) follow(ctx context.Context, s logSource) {
	if f.known[s.id] {
		return
	}
	reading, stop := context.WithCancel(ctx)
	f.running[s.id], f.known[s.id] = stop, true
	f.wait.Go(func() {
		if err := f.read(ctx, reading, s); err != nil && ctx.Err() == nil {
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

// read sends a container's entries as they come until reading ends or the log is moved away; then the rest that is in it.
func (f *followers) read(ctx, reading context.Context, s logSource) error {
	var last time.Time
	forward := func(e logs.Entry) error {
		last = e.Time
		return f.one(s.entry(e))
	}
	err := f.backend.engine.Logs(reading, s.id, s.options, forward)
	if ctx.Err() != nil || err != nil && reading.Err() == nil && !runtime.IsGone(err) {
		return err
	}
	if !last.IsZero() {
		s.options.Since, s.options.Tail = last.Add(1), 0 // times grow strictly within a log
	}
	return f.backend.readLog(ctx, s, forward)
}
