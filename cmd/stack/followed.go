package main

import (
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

// followed is one container of an attached up. While it runs a stream of its own brings what it prints; the stream ends
// when the container has and all was sent, which is when its exit is told.
type followed struct {
	api.Container           // as last heard
	following     bool      // a stream is open
	started       time.Time // of the run that the stream was opened for
	last          time.Time // of the last entry that came
	told          time.Time // when the last exit that was told happened
}

// output is an entry of a container, or the end of its stream.
type output struct {
	id    string
	entry *api.LogEntry // nil at the end
	err   error         // why it ended, where that is not its natural end
}

// changed takes note of what is heard of a container; it may be older than what is known.
func (a *attachment) changed(c api.Container) {
	f := a.containers[c.ID]
	if f == nil {
		f = &followed{last: a.began}
		a.containers[c.ID] = f
	} else if c.Started.Before(f.Started) || c.Started.Equal(f.Started) && f.State == planner.Exited && c.State != "removed" {
		return
	}
	f.Container = c
	a.settle(f)
}

// settle does what follows from a container's state: opens a stream for a new run, tells of an exit.
func (a *attachment) settle(f *followed) {
	if f.following {
		return
	}
	ran := f.State == planner.Running || f.State == planner.Paused || f.State == planner.Restarting ||
		f.State == planner.Exited && f.Finished.After(a.began)
	if ran && a.shows(f.Container) && f.Started.After(f.started) {
		f.following, f.started = true, f.Started
		id, since := f.ID, f.last
		a.others.Go(func() { a.follow(id, since) })
		return
	}
	if f.State == planner.Exited && f.Finished.After(a.began) && f.Finished.After(f.told) {
		f.told = f.Finished
		a.exited(f.Container)
	}
}

// follow brings what a container prints from since on.
func (a *attachment) follow(id string, since time.Time) {
	send := func(out output) error {
		select {
		case a.outputs <- out:
			return nil
		case <-a.streams.Done():
			return a.streams.Err()
		}
	}
	request := api.LogRequest{Containers: []string{id}, Since: since, Tail: -1, Follow: true}
	err := a.d.Logs(a.streams, a.request.Stack.Name, request, func(e api.LogEntry) error {
		return send(output{id: id, entry: &e})
	})
	send(output{id: id, err: err}) // fails when nobody listens any more
}

// printed shows an entry, or takes note of a stream's end.
func (a *attachment) printed(out output) {
	f := a.containers[out.id]
	if out.entry == nil {
		f.following = false
		a.settle(f)
		return
	}
	if !out.entry.Time.Before(f.last) {
		f.last = out.entry.Time.Add(1) // a later stream begins behind it
	}
	if out.entry.Event == "" {
		a.show(*out.entry)
	}
}

// settleAll shows what is on its way, until all that exited has said its last line or limit is over.
func (a *attachment) settleAll(limit time.Duration) {
	over := time.After(limit)
	for {
		open := false
		for _, f := range a.containers {
			open = open || f.following
		}
		if !open {
			return
		}
		select {
		case c := <-a.changes:
			a.changed(c)
		case out := <-a.outputs:
			a.printed(out)
		case <-over:
			return
		}
	}
}
