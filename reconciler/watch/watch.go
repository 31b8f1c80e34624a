// Package watch is watch mode: it hears of changed files on the host and has a stack's containers follow, by the rules of
// develop.watch.
//
// Three goroutines share the work. The reader takes the kernel's events in at once, so that its queue never runs full, and
// keeps which paths are to be looked at (tree.go). The worker looks at them, says which rules are concerned (batch.go) and
// has their files placed in containers. The runner does what takes longer: restarts, commands, rebuilds. A single save
// goes through without any delay; what comes while the worker is busy is its next batch. Restarts and rebuilds wait until
// the files have been quiet for a moment.
//
// Nothing is taken for granted: paths are compared with the host's files when they are placed, so an event too many does no
// harm. Where events got lost all is looked at again.
package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stack-run/stack/reconciler/watch/ignore"
	"github.com/stack-run/stack/spec"
)

// Target is what follows the files: the containers of one stack.
type Target interface {
	// Place makes paths in containers of a service equal to the host's; no containers are all that run.
	Place(ctx context.Context, service string, containers []string, sets []Set) ([]Placed, error)
	Restart(ctx context.Context, services []string) error
	Exec(ctx context.Context, service string, command *spec.WatchExec) error
	// Rebuild makes images anew and replaces the services' containers.
	Rebuild(ctx context.Context, services []string) error
	// Rebuilds tells whether a service's image can be made anew here.
	Rebuilds(service string) bool
}

// Set is paths below a folder, or one file, and where they belong in a container.
type Set struct {
	Source, Target string
	Paths          []string
	Ignore         []ignore.List
}

// Placed is what was done in one container.
type Placed struct {
	Container                            string // its name
	Written, Unchanged, Removed, Skipped int
	Bytes                                int64
	Failures                             []string
	Err                                  error // not all of it was done; wraps ErrCannotSync where no try will ever do it
}

// ErrCannotSync is what errors about containers wrap that take no files, such as one with a read-only root.
var ErrCannotSync = errors.New("files can't be synced into it")

// Container is a container of the stack that runs.
type Container struct {
	ID, Service string
	Started     time.Time
}

// Event is something that a user may want to know.
type Event struct {
	Kind    Kind
	Service string
	// Paths that a sync was about, absolute; of many only the first.
	Paths []string
	Count int    // of paths
	To    string // where the only one, or the folders of all, belong in the container
	Placed
	Took time.Duration // since the kernel told of the first change, or since the action began
	Text string
	Err  error

	folders []string // of the rules, in the container
	since   time.Time
}

// Kind of an Event.
type Kind string

const (
	Watching   Kind = "watching" // from now on no change is missed
	Synced     Kind = "sync"
	Restarting Kind = "restarting"
	Restarted  Kind = "restarted"
	Executing  Kind = "executing"
	Executed   Kind = "executed"
	Rebuilding Kind = "rebuilding"
	Rebuilt    Kind = "rebuilt"
	Note       Kind = "note"
	Warning    Kind = "warning"
	Failed     Kind = "failed"
)

// Options of a Watcher.
type Options struct {
	Target   Target
	Services map[string]*spec.Service // those to watch
	// Report is called from several goroutines, one call at a time.
	Report func(Event)
}

// ErrNothing means that no service has a rule.
var ErrNothing = errors.New("none of the selected services is configured for watch, consider setting a 'develop' section")

// Run watches until ctx ends. Containers tells of each container that runs, at the start and whenever one starts; services
// gives the services anew when the stack file has changed.
func Run(ctx context.Context, o Options, containers <-chan Container, services <-chan map[string]*spec.Service) error {
	rules, warnings, err := rulesOf(o.Services)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return ErrNothing
	}
	w := &worker{target: o.Target, report: reporter(o.Report), rules: rules, seen: map[string]time.Time{}}
	for _, text := range warnings {
		w.report(Event{Kind: Warning, Text: text})
	}
	t, err := newTree(rules, w.report)
	if err != nil {
		return err
	}
	w.tree = t
	w.report(Event{Kind: Watching})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read := make(chan error, 1)
	go func() { read <- t.read(ctx) }()
	w.run(ctx, containers, services)
	cancel()
	return <-read
}

// reporter lets one call through at a time.
func reporter(report func(Event)) func(Event) {
	turn := make(chan struct{}, 1)
	return func(e Event) {
		turn <- struct{}{}
		defer func() { <-turn }()
		report(e)
	}
}

// rule is one rule of one service.
type rule struct {
	service string
	spec.WatchRule
	lists   []ignore.List
	ignored *ignore.Matcher
	include *ignore.Matcher // nil includes all
	// touched are the paths, relative to the rule's, that were changed since the watch began: what a container made
	// from the image anew lacks. Only the worker uses it.
	touched map[string]bool
}

// rulesOf makes the rules of services, in the order of names and of the file.
func rulesOf(services map[string]*spec.Service) (rules []*rule, warnings []string, err error) {
	for _, name := range sortedKeys(services) {
		s := services[name]
		if s.Develop == nil {
			continue
		}
		docker, err := ignore.Dockerignore(s.Develop.Context, s.Develop.Dockerfile)
		if err != nil {
			return nil, nil, err
		}
		for _, r := range s.Develop.Watch {
			if r.Syncs() && mounted(s, r.Path) {
				warnings = append(warnings, fmt.Sprintf("%s: %s is bind-mounted into %s: it is there already, and not watched", r.Position, r.Path, name))
				continue
			}
			made := &rule{service: name, WatchRule: r, touched: map[string]bool{}}
			for _, l := range []ignore.List{docker, {Dir: r.Path, Patterns: r.Ignore}} {
				if len(l.Patterns) > 0 {
					made.lists = append(made.lists, l)
				}
			}
			if made.ignored, err = ignore.New(r.Path, made.lists...); err != nil {
				return nil, nil, fmt.Errorf("%s: ignore: %w", r.Position, err)
			}
			if len(r.Include) > 0 {
				if made.include, err = ignore.New(r.Path, ignore.List{Dir: r.Path, Patterns: r.Include}); err != nil {
					return nil, nil, fmt.Errorf("%s: include: %w", r.Position, err)
				}
			}
			rules = append(rules, made)
		}
	}
	return rules, warnings, nil
}

// mounted tells whether a bind mount of the service shows the path in its containers.
func mounted(s *spec.Service, path string) bool {
	for _, m := range s.Mounts {
		if m.Type == spec.MountBind && isBelow(m.Source, path) {
			return true
		}
	}
	return false
}

// about tells whether the rule is about a path, and how the path is called below the rule's.
func (r *rule) about(path string) (rel string, ok bool) {
	if !isBelow(r.Path, path) || r.ignored.Ignored(path) || r.include != nil && !r.include.Matches(path) {
		return "", false
	}
	if path == r.Path {
		return "", true
	}
	return path[len(r.Path)+1:], true
}
