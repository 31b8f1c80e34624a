package watch

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stack-run/stack/spec"
)

const (
	// quiet is how long no file must have changed before services are restarted or rebuilt.
	quiet = 30 * time.Millisecond
	// longest is how long files that never rest may put that off.
	longest = 3 * time.Second
	// retry is when what could not be placed is tried again.
	retry = time.Second
)

// worker has the containers follow the files.
type worker struct {
	target Target
	report func(Event)
	rules  []*rule
	tree   *tree
	seen   map[string]time.Time // containers by id, with the start that was last heard of

	// untold are syncs by container, until files are quiet: many small ones are one to the user.
	telling  sync.Mutex
	written  atomic.Int64 // files, in all containers so far
	untold   map[string]*Event
	due      actions
	dueSince time.Time
	last     time.Time // of a change
	running  chan struct{}
}

func (w *worker) run(ctx context.Context, containers <-chan Container, services <-chan map[string]*spec.Service) {
	closings, err := newClosings(w.tree.kick)
	if err != nil {
		w.report(Event{Kind: Warning, Text: fmt.Sprintf("files that are being written to are looked at every %v: %v", patience, limitError(err))})
	} else {
		defer closings.close()
	}
	await := func(path string) error {
		if closings == nil {
			return nil
		}
		return closings.await(path)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer func() {
		if w.running != nil {
			<-w.running // it ends with ctx
		}
	}()
	var next, burst time.Time // when to look next, and since when changes are gathered
	for {
		if at := w.soonest(next); !at.IsZero() {
			timer.Reset(time.Until(at))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case c := <-containers:
			w.started(ctx, c)
		case s := <-services:
			w.follow(ctx, s)
		case <-w.running:
			w.running = nil
		case <-w.tree.wake:
		case <-timer.C:
		}
		if burst.IsZero() {
			burst = time.Now()
		}
		if next = w.tree.gathering(burst); !next.IsZero() {
			continue
		}
		burst = time.Time{}
		var changes []ready
		if changes, next = w.tree.look(time.Now(), await); len(changes) > 0 {
			w.act(ctx, changes)
			w.last = time.Now()
		}
		if time.Since(w.last) >= quiet {
			w.tell()
		}
		w.perform(ctx)
	}
}

// soonest is when there is something to do next if nothing happens; zero is never.
func (w *worker) soonest(next time.Time) time.Time {
	idle := w.due.empty() || w.running != nil
	if idle && len(w.untold) == 0 {
		return next
	}
	at := w.last.Add(quiet)
	if end := w.dueSince.Add(longest); !idle && end.Before(at) {
		at = end
	}
	if !next.IsZero() && next.Before(at) {
		at = next
	}
	return at
}

// act places changed files and notes what else they ask for.
func (w *worker) act(ctx context.Context, changes []ready) {
	b := batchOf(w.rules, changes)
	if !b.actions.empty() {
		if w.due.empty() {
			w.dueSince = time.Now()
		}
		w.due.add(b.actions)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	for service, s := range b.syncs {
		group.Go(func() {
			rebuild := w.place(ctx, service, nil, s)
			mu.Lock()
			defer mu.Unlock()
			if rebuild {
				w.rebuildInstead(service)
			}
		})
	}
	group.Wait()
}

// place gives a service's containers what changed, and tells whether only a rebuild can do it.
func (w *worker) place(ctx context.Context, service string, containers []string, s *syncing) (rebuild bool) {
	for told := false; ; told = true {
		placed, err := w.target.Place(ctx, service, containers, s.sets)
		if err == nil {
			for _, p := range placed {
				rebuild = w.placed(service, s, p) || rebuild
			}
			return rebuild
		}
		if ctx.Err() != nil {
			return false
		}
		// Nobody listens: the daemon is being restarted, or is gone. What is not placed must not be forgotten.
		if !told {
			w.report(Event{Kind: Failed, Service: service, Text: fmt.Sprintf("sync (tried again every %v)", retry), Err: err})
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(retry):
		}
	}
}

// placed takes down what was done in one container, and tells whether only a rebuild can do it.
func (w *worker) placed(service string, s *syncing, p Placed) (rebuild bool) {
	switch {
	case errors.Is(p.Err, ErrCannotSync) && w.target.Rebuilds(service):
		w.report(Event{Kind: Note, Service: service, Text: "rebuilding instead", Err: p.Err})
		return true
	case p.Err != nil:
		w.report(Event{Kind: Failed, Service: service, Placed: p, Text: "sync", Err: p.Err})
	case p.Written+p.Removed > 0 || len(p.Failures) > 0:
		w.written.Add(int64(p.Written + p.Removed))
		e := Event{Kind: Synced, Service: service, Placed: p, Took: time.Since(s.since), since: s.since}
		for _, set := range s.sets {
			e.Count += len(set.Paths)
			e.folders = withFolder(e.folders, set.Target)
			for _, rel := range set.Paths[:min(len(set.Paths), fewPaths)] {
				e.Paths = append(e.Paths, filepath.Join(set.Source, rel))
			}
		}
		e.To = strings.Join(e.folders, ", ")
		if e.Count == 1 {
			e.To = path.Join(s.sets[0].Target, s.sets[0].Paths[0])
		}
		w.telling.Lock()
		defer w.telling.Unlock()
		w.untold = withSync(w.untold, e)
	}
	return false
}

// fewPaths are named, more only counted.
const fewPaths = 3

// withSync adds a sync to those of its container.
func withSync(untold map[string]*Event, e Event) map[string]*Event {
	if untold == nil {
		untold = map[string]*Event{}
	}
	old := untold[e.Container]
	if old == nil {
		untold[e.Container] = &e
		return untold
	}
	for _, p := range e.Paths {
		if e.Count > len(e.Paths) || !slices.Contains(old.Paths, p) {
			old.Count += e.Count
			old.Paths = append(old.Paths, e.Paths...)
			for _, folder := range e.folders {
				old.folders = withFolder(old.folders, folder)
			}
			old.To = strings.Join(old.folders, ", ")
			break
		}
	}
	old.Written, old.Removed, old.Skipped, old.Bytes = old.Written+e.Written, old.Removed+e.Removed, old.Skipped+e.Skipped, old.Bytes+e.Bytes
	old.Failures = append(old.Failures, e.Failures...)
	old.Took = time.Since(old.since)
	return untold
}

func withFolder(folders []string, folder string) []string {
	if slices.Contains(folders, folder) {
		return folders
	}
	return append(folders, folder)
}

// tell reports the syncs that were not reported yet.
func (w *worker) tell() {
	for _, name := range sortedKeys(w.untold) {
		w.report(*w.untold[name])
	}
	w.untold = nil
}

func (w *worker) rebuildInstead(service string) {
	if w.due.empty() {
		w.dueSince = time.Now()
	}
	put(&w.due.rebuild, service)
}

// started brings a container up to date that has started: one that was made anew has the image's files only, and one that was
// restarted may have missed some.
func (w *worker) started(ctx context.Context, c Container) {
	last, known := w.seen[c.ID]
	if known && last.Equal(c.Started) {
		return
	}
	w.seen[c.ID] = c.Started
	s := &syncing{since: time.Now()}
	for _, r := range w.rules {
		if r.service != c.Service || !r.Syncs() {
			continue
		}
		rels := map[string]bool{}
		for rel := range r.touched {
			rels[rel] = true
		}
		if r.InitialSync {
			for _, rel := range r.initial(w.tree) {
				rels[rel] = true
			}
		}
		if len(rels) > 0 {
			s.sets = append(s.sets, r.set(sortedKeys(rels)))
			s.rules = append(s.rules, r)
		}
	}
	if len(s.sets) > 0 {
		w.catchUp(ctx, c.Service, []string{c.ID}, s)
	}
}

// catchUp places what no event is going to tell of; no containers are all that run.
func (w *worker) catchUp(ctx context.Context, service string, containers []string, s *syncing) {
	before := w.written.Load()
	if w.place(ctx, service, containers, s) {
		w.rebuildInstead(service)
	}
	if w.written.Load() == before {
		return
	}
	// What started with the image's files is told to load those it has now. It is not restarted: one whose files are
	// gone with each restart would never come to rest.
	for _, r := range s.rules {
		if r.Action == spec.WatchSyncExec {
			if w.due.empty() {
				w.dueSince = time.Now()
			}
			w.due.add(actions{exec: []*rule{r}})
		}
	}
}

// notInitially are names that an initial sync passes over, as Compose's does: files about the image, not for it.
var notInitially = map[string]bool{
	"Dockerfile": true, "compose.yaml": true, "compose.yml": true, "docker-compose.yml": true, "docker-compose.yaml": true,
	"compose.override.yml": true, "compose.override.yaml": true, "docker-compose.override.yml": true, "docker-compose.override.yaml": true,
}

// perform begins what is due, if files are quiet and nothing else is being done.
func (w *worker) perform(ctx context.Context) {
	if w.due.empty() || w.running != nil || ctx.Err() != nil {
		return
	}
	if now := time.Now(); now.Sub(w.last) < quiet && now.Sub(w.dueSince) < longest {
		return
	}
	due := w.due
	w.due = actions{}
	done := make(chan struct{})
	w.running = done
	go func() {
		defer close(done)
		w.do(ctx, due)
	}()
}

// do rebuilds, restarts and runs commands. What is rebuilt has a new container, and needs no restart.
func (w *worker) do(ctx context.Context, a actions) {
	if names := sortedKeys(a.rebuild); len(names) > 0 {
		w.timed(Rebuilding, Rebuilt, names, func() error { return w.target.Rebuild(ctx, names) })
	}
	for name := range a.rebuild {
		delete(a.restart, name)
	}
	if names := sortedKeys(a.restart); len(names) > 0 {
		w.timed(Restarting, Restarted, names, func() error { return w.target.Restart(ctx, names) })
	}
	for _, r := range a.exec {
		w.timed(Executing, Executed, []string{r.service}, func() error { return w.target.Exec(ctx, r.service, r.Exec) })
	}
}

func (w *worker) timed(begin, end Kind, services []string, do func() error) {
	began := time.Now()
	for _, name := range services {
		w.report(Event{Kind: begin, Service: name})
	}
	err := do()
	if errors.Is(err, context.Canceled) {
		return
	}
	for _, name := range services {
		if err != nil {
			w.report(Event{Kind: Failed, Service: name, Text: string(begin), Err: err})
			return
		}
		w.report(Event{Kind: end, Service: name, Took: time.Since(began)})
	}
}
