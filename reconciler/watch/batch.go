package watch

import (
	"slices"
	"time"

	"github.com/stack-run/stack/spec"
)

// batch is what a number of changes asks for.
type batch struct {
	syncs   map[string]*syncing // by service
	actions actions
}

// syncing is what one service's containers are to be given.
type syncing struct {
	sets  []Set
	rules []*rule // of the sets
	since time.Time
}

// actions are what is done once files are quiet.
type actions struct {
	rebuild, restart map[string]bool
	exec             []*rule
}

func (a *actions) empty() bool { return len(a.rebuild)+len(a.restart)+len(a.exec) == 0 }

// add takes another batch's actions in.
func (a *actions) add(b actions) {
	for name := range b.rebuild {
		put(&a.rebuild, name)
	}
	for name := range b.restart {
		put(&a.restart, name)
	}
	for _, r := range b.exec {
		if !slices.Contains(a.exec, r) {
			a.exec = append(a.exec, r)
		}
	}
}

func put(set *map[string]bool, name string) {
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[name] = true
}

// batchOf says which rules the changes concern. A file may concern several, of one service or of many.
func batchOf(rules []*rule, changes []ready) batch {
	b := batch{syncs: map[string]*syncing{}}
	for _, r := range rules {
		var rels []string
		var since time.Time
		for _, c := range changes {
			rel, ok := r.about(c.path)
			if !ok {
				continue
			}
			if since.IsZero() || c.since.Before(since) {
				since = c.since
			}
			rels = append(rels, rel)
		}
		if len(rels) == 0 {
			continue
		}
		switch r.Action {
		case spec.WatchRebuild:
			put(&b.actions.rebuild, r.service)
		case spec.WatchRestart, spec.WatchSyncRestart:
			put(&b.actions.restart, r.service)
		case spec.WatchSyncExec:
			b.actions.exec = append(b.actions.exec, r)
		}
		if !r.Syncs() {
			continue
		}
		s := b.syncs[r.service]
		if s == nil {
			s = &syncing{since: since}
			b.syncs[r.service] = s
		}
		if since.Before(s.since) {
			s.since = since
		}
		slices.Sort(rels)
		s.sets = append(s.sets, r.set(rels))
		s.rules = append(s.rules, r)
		for _, rel := range rels {
			r.touched[rel] = true
		}
	}
	return b
}

func (r *rule) set(rels []string) Set {
	return Set{Source: r.Path, Target: r.Target, Paths: rels, Ignore: r.lists}
}
