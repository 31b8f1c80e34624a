package gitops

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/notify"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// blips is how many failures in a row, of those that may go away by themselves, are nobody's business.
const blips = 2

// tellOthers sends what is new to those who want to know, once: a state that goes on is told again only where asked for.
func (c *Controller) tellOthers(x *attempt, f *failure) {
	c.report(x, f)
	s := x.snapshot()
	m := notify.Message{
		Repository: x.name, Host: c.opts.Host, Time: time.Now().UTC(), Revision: s.Attempted.ID, Subject: s.Attempted.Subject, Author: s.Attempted.Author,
		Stacks: x.changed,
	}
	ready := s.Condition(status.Ready)
	m.Reason, m.Message = ready.Reason, ready.Message
	failedBefore := s.Told.State == "failed"
	switch {
	case f != nil && f.reason == status.DependencyNotReady, f != nil && !f.lasting && s.Failures <= blips:
		return
	case f != nil:
		m.State = "failed"
	case ready.Status == status.True && failedBefore:
		m.State = "recovered"
	case x.rev.ID != "" && len(x.changed) > 0:
		m.State = "applied"
	default:
		return
	}
	told := status.Told{State: m.State, Reason: m.Reason, Revision: m.Revision, Time: m.Time}
	again := s.Told.State == told.State && s.Told.Reason == told.Reason && s.Told.Revision == told.Revision
	for _, n := range c.declared().Notify {
		wants := (len(n.On) == 0 || slices.Contains(n.On, m.State)) && (len(n.Repositories) == 0 || slices.Contains(n.Repositories, x.name))
		if !wants || again && (n.Repeat == 0 || m.Time.Sub(s.Told.Time) < time.Duration(n.Repeat)) {
			continue
		}
		c.deliver(x.name+": notify "+n.Name, func(ctx context.Context) error { return notify.Send(ctx, n, m) })
	}
	if !again || c.repeats(m.Time.Sub(s.Told.Time)) {
		x.update(func(s *status.Repository) { s.Told = told })
	}
}

// repeats tells whether any receiver wants to hear again of a state that is as old.
func (c *Controller) repeats(age time.Duration) bool {
	return slices.ContainsFunc(c.declared().Notify, func(n declare.Notify) bool { return n.Repeat > 0 && age >= time.Duration(n.Repeat) })
}

// report tells the server what became of the commit.
func (c *Controller) report(x *attempt, f *failure) {
	if x.def.Report.Provider == "" || x.rev.ID == "" {
		return
	}
	state, text := notify.Success, "revision "+x.rev.Short()+" is applied"
	if f != nil {
		state, text = notify.Failure, f.reason+": "+x.redact(f.Error())
	}
	key := x.rev.ID + state
	if x.snapshot().Reported == key {
		return
	}
	x.update(func(s *status.Repository) { s.Reported = key })
	c.deliver(x.name+": commit status", func(ctx context.Context) error {
		return notify.Report(ctx, x.def.Report, c.opts.Host, x.rev.ID, state, text)
	})
}

// The tries of a delivery, the distance between them growing.
const (
	deliveries    = 5
	deliveryPause = 2 * time.Second
)

// pendingNews is how many deliveries may be on their way; what comes on top is dropped, and said so.
const pendingNews = 64

// deliver tries a few times, on its own: nobody waits for a receiver.
func (c *Controller) deliver(what string, send func(context.Context) error) {
	select {
	case c.news <- struct{}{}:
	default:
		c.opts.Logf("gitops %s: dropped, too many are on their way", what)
		return
	}
	c.tasks.Go(func() {
		defer func() { <-c.news }()
		var err error
		for i := range deliveries {
			if err = send(c.ctx); err == nil || errors.Is(err, notify.ErrRefused) || c.ctx.Err() != nil {
				break
			}
			select {
			case <-c.ctx.Done():
			case <-time.After(deliveryPause << i):
			}
		}
		if err != nil {
			c.opts.Logf("gitops %s: %v", what, err)
		}
	})
}
