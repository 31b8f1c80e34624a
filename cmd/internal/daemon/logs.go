package daemon

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
	"github.com/stack-run/stack/spec"
)

// Logs sends what the selected containers printed, those that others took the place of included: without Follow in the order
// of time; with it, each container's lines as they come, new containers of the services included, until ctx ends or nothing
// is left that could print.
func (b *backend) Logs(ctx context.Context, stack string, req api.LogRequest, send func(api.LogEntry) error) error {
	if req.Follow {
		return b.followLogs(ctx, stack, req, send)
	}
	live, replaced, err := b.logSources(stack, req)
	if err != nil {
		return err
	}
	if replaced, err = b.tails(ctx, req, live, replaced); err != nil {
		return err
	}
	return b.mergeLogs(ctx, append(replaced, live...), send)
}

// logSource is the log of one container, and what is asked of it.
type logSource struct {
	stack, id, name, service string
	hook                     string // that it is
	replica                  int
	created                  time.Time
	printing                 bool // it may print more
	options                  logs.Options
}

// logSources are the logs that a request selects: of containers that are there, and of those that they took the place of,
// each the oldest first.
func (b *backend) logSources(stack string, req api.LogRequest) (live, replaced []logSource, err error) {
	seen := map[string]bool{}
	for _, c := range b.reconciler.Containers(stack) { // first: one that is replaced meanwhile shows among the others
		seen[c.ID] = true
		if selected(req, c) {
			source := logSource{
				stack: stack, id: c.ID, name: c.Name, service: c.Service, replica: c.Replica, created: c.Created,
				printing: c.State == planner.Running || c.State == planner.Paused || c.State == planner.Restarting,
				options:  readOptions(req, c.ID),
			}
			if c.InitOf != nil { // what a hook says, its service says
				source.name, source.hook = c.InitOf.Name, spec.PreStart
			}
			live = append(live, source)
		}
	}
	slices.SortStableFunc(live, func(a, b logSource) int { return a.created.Compare(b.created) })
	if len(req.Containers) > 0 {
		return live, nil, nil
	}
	kept, err := b.engine.RetainedLogs(stack)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range kept {
		ofService := len(req.Services) == 0 || slices.Contains(req.Services, r.Service)
		if seen[r.ID] || !ofService || req.Index > 0 && req.Index != r.Replica {
			continue
		}
		replaced = append(replaced, logSource{
			stack: stack, id: r.ID, name: r.Name, service: r.Service, replica: r.Replica, created: r.Created, options: readOptions(req, r.ID),
		})
	}
	return live, replaced, nil
}

// tails makes the last n lines of a replica those of all containers that it had: what the present one does not have, those
// before it give, the youngest first.
func (b *backend) tails(ctx context.Context, req api.LogRequest, live, replaced []logSource) ([]logSource, error) {
	if req.Tail < 0 {
		return replaced, nil
	}
	type replica struct {
		service string
		number  int
	}
	missing := map[replica]int{}
	had := map[replica]bool{}
	for _, s := range replaced {
		had[replica{s.service, s.replica}] = true
	}
	count := func(s logSource) error {
		of := replica{s.service, s.replica}
		if _, known := missing[of]; !known {
			missing[of] = req.Tail
		}
		if !had[of] || missing[of] == 0 {
			return nil
		}
		return b.readLog(ctx, s, func(logs.Entry) error { missing[of]--; return nil })
	}
	for _, s := range live {
		if err := count(s); err != nil {
			return nil, err
		}
	}
	var wanted []logSource
	for _, s := range slices.Backward(replaced) {
		of := replica{s.service, s.replica}
		if _, known := missing[of]; !known {
			missing[of] = req.Tail // nothing has taken its place yet
		}
		if missing[of] <= 0 {
			continue
		}
		s.options.Tail = missing[of]
		if err := count(s); err != nil {
			return nil, err
		}
		wanted = append(wanted, s)
	}
	slices.Reverse(wanted)
	return wanted, nil
}

// readLog reads a source as it is now, wherever its log is by now.
func (b *backend) readLog(ctx context.Context, s logSource, yield func(logs.Entry) error) error {
	s.options.Follow = false
	err := b.engine.Logs(ctx, s.id, s.options, yield)
	if errors.Is(err, runtime.ErrNotFound) {
		err = b.engine.RetainedLog(ctx, s.stack, s.id, s.options, yield)
	}
	if runtime.IsGone(err) {
		return nil // removed meanwhile: it has nothing to say
	}
	return err
}

// mergeLogs sends what is in the logs now, in the order of time.
func (b *backend) mergeLogs(ctx context.Context, sources []logSource, send func(api.LogEntry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var streams []*logStream
	for _, s := range sources {
		streams = append(streams, b.stream(ctx, s))
	}
	return merge(streams, send)
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
	if c.OneOff && c.InitOf == nil && !req.OneOff || req.Index > 0 && req.Index != c.Replica {
		return false
	}
	return len(req.Services) == 0 || slices.Contains(req.Services, c.Service)
}

// readOptions are what a request asks of one container's log.
func readOptions(req api.LogRequest, id string) logs.Options {
	opts := logs.Options{Since: req.Since, Until: req.Until, Tail: req.Tail, Follow: req.Follow}
	switch {
	case req.Tail < 0:
		opts.Tail = 0
	case req.Tail == 0:
		opts.Tail = logs.TailNone
	}
	if after, ok := req.After[id]; ok { // times grow strictly within a log
		opts.Since, opts.Tail = after.Add(1), 0
	}
	return opts
}

func (s logSource) entry(e logs.Entry) api.LogEntry {
	line, whole := strings.CutSuffix(string(e.Line), "\n")
	return api.LogEntry{
		Container: s.name, ID: s.id, Service: s.service, Replica: s.replica, Time: e.Time, Stream: cmp.Or(e.Stream, logs.Stdout), Line: line, Partial: !whole,
		Hook: cmp.Or(s.hook, e.Attrs["hook"]),
	}
}

// logStream is one container's entries, read ahead by a goroutine that ends with ctx.
type logStream struct {
	entries chan api.LogEntry
	head    api.LogEntry
	err     error
}

func (b *backend) stream(ctx context.Context, source logSource) *logStream {
	s := &logStream{entries: make(chan api.LogEntry, 64)}
	go func() {
		defer close(s.entries)
		s.err = b.readLog(ctx, source, func(e logs.Entry) error {
			select {
			case s.entries <- source.entry(e):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return s
}

func (s *logStream) next() (ok bool) {
	s.head, ok = <-s.entries
	return ok
}
