package watch

import (
	"context"
	"path/filepath"
	"time"

	"github.com/stack-run/stack/spec"
)

// renewal are rules that the reader goes on with; it closes done when it knows their files.
type renewal struct {
	rules []*rule
	done  chan struct{}
}

// follow goes on with the rules of a changed stack file. Containers that run on get what the new rules ask of them at once.
func (w *worker) follow(ctx context.Context, services map[string]*spec.Service) {
	rules, warnings, err := rulesOf(services)
	if err != nil {
		w.report(Event{Kind: Failed, Text: "watch rules", Err: err})
		return
	}
	for _, text := range warnings {
		w.report(Event{Kind: Warning, Text: text})
	}
	fresh := map[*rule][]string{} // rules, with the files that the rule in whose place they are was about
	for _, r := range rules {
		old := w.before(r)
		switch {
		case old == nil:
			fresh[r] = nil
		case old.Path == r.Path:
			r.touched = old.touched
			if r.InitialSync && !old.InitialSync {
				fresh[r] = nil
			}
		default: // another folder, such as where a link points to now
			fresh[r] = append(sortedKeys(old.touched), w.tree.files(old)...)
		}
	}
	next := renewal{rules, make(chan struct{})}
	select {
	case w.tree.again <- next:
	case <-ctx.Done():
		return
	}
	select {
	case <-next.done:
	case <-ctx.Done():
		return
	}
	w.rules = rules
	w.begin(ctx, fresh)
}

// before is the rule whose place a new one takes: of the same service, for the same folder of its containers, of the same
// files if there is such a one.
func (w *worker) before(r *rule) *rule {
	var found *rule
	for _, old := range w.rules {
		switch {
		case old.service != r.service || old.Target != r.Target:
		case old.Path == r.Path:
			return old
		case r.Syncs() && old.Syncs() && found == nil:
			found = old
		}
	}
	return found
}

// begin gives the containers that run what rules ask for that were not there before: all files of those with an initial
// sync, and of those that are about another folder now.
func (w *worker) begin(ctx context.Context, fresh map[*rule][]string) {
	syncs := map[string]*syncing{}
	for _, r := range w.rules {
		gone, isFresh := fresh[r]
		if !isFresh || !r.Syncs() || gone == nil && !r.InitialSync {
			continue
		}
		rels := map[string]bool{}
		for _, rel := range append(gone, r.initial(w.tree)...) {
			if _, ok := r.about(filepath.Join(r.Path, rel)); ok {
				rels[rel] = true
				r.touched[rel] = r.touched[rel] || gone != nil
			}
		}
		if len(rels) == 0 {
			continue
		}
		s := syncs[r.service]
		if s == nil {
			s = &syncing{since: time.Now()}
			syncs[r.service] = s
		}
		s.sets = append(s.sets, r.set(sortedKeys(rels)))
		s.rules = append(s.rules, r)
	}
	for _, service := range sortedKeys(syncs) {
		s, before := syncs[service], w.written.Load()
		w.catchUp(ctx, service, nil, s)
		for _, r := range s.rules {
			if r.Action == spec.WatchSyncRestart && w.written.Load() != before {
				if w.due.empty() {
					w.dueSince = time.Now()
				}
				w.due.add(actions{restart: map[string]bool{service: true}})
			}
		}
	}
}

// initial are the files of an initial sync.
func (r *rule) initial(t *tree) []string {
	var rels []string
	for _, rel := range t.files(r) {
		if !notInitially[filepath.Base(rel)] {
			rels = append(rels, rel)
		}
	}
	return rels
}
