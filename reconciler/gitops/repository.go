package gitops

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// repository is one that is followed. One goroutine reconciles it; others ask it to, and read its state.
type repository struct {
	c     *Controller
	name  string
	dir   string
	store *checkout.Store
	stop  context.CancelFunc
	done  chan struct{}

	mu       sync.Mutex
	def      declare.Repository // with defaults
	declared string
	labels   map[string]string
	src      source.Source
	state    status.Repository
	asked    []request // what is to be answered by the next attempt
	ended    bool      // there is none any more
	wake     chan struct{}
	hook     *time.Timer // of a webhook that wakes it in a moment
	hookedAt time.Time
}

// request asks for an attempt. done is closed when one that began after the request has ended.
type request struct {
	by           string
	force        bool
	allowRewrite bool
	done         chan struct{}
}

// follow reconciles until ctx ends.
func (r *repository) follow(ctx context.Context) {
	defer close(r.done)
	defer r.answerAll()
	next := r.firstRun()
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for by := "start"; ; by = "interval" {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		r.mu.Lock()
		requests := r.asked
		r.asked = nil
		r.mu.Unlock()
		r.once(ctx, by, requests)
		for _, q := range requests {
			close(q.done)
		}
		timer.Reset(time.Until(r.snapshot().NextRun))
	}
}

// firstRun spreads what a starting daemon asks of servers; what was interrupted, or is new, is looked at at once.
func (r *repository) firstRun() time.Time {
	s := r.snapshot()
	if s.LastRun.IsZero() || s.Condition(status.Ready).Status != status.True {
		return time.Now()
	}
	return time.Now().Add(rand.N(min(time.Duration(r.definition().Interval), 10*time.Second)))
}

// ask wakes the goroutine; the returned channel is closed when it has done what was asked.
func (r *repository) ask(q request) <-chan struct{} {
	q.done = make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		close(q.done)
		return q.done
	}
	r.asked = append(r.asked, q)
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
	return q.done
}

// answerAll is the end: nobody waits for what won't come.
func (r *repository) answerAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, q := range r.asked {
		close(q.done)
	}
	r.asked = nil
}

func (r *repository) snapshot() status.Repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	return clone(r.state)
}

func (r *repository) definition() declare.Repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.def
}

// update changes the state and keeps it.
func (r *repository) update(change func(*status.Repository)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
	if err := write(filepath.Join(r.dir, stateFile), r.state); err != nil {
		r.c.opts.Logf("gitops %s: keep its state: %v", r.name, err)
	}
}

// keep makes the state survive a power loss.
func (r *repository) keep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := writeSynced(filepath.Join(r.dir, stateFile), r.state); err != nil {
		r.c.opts.Logf("gitops %s: keep its state: %v", r.name, err)
	}
}

// once makes one attempt and notes how it ended.
func (r *repository) once(ctx context.Context, by string, requests []request) {
	x := r.attempt(by, requests)
	if x == nil {
		return
	}
	if err := r.c.slots.Acquire(ctx, 1); err != nil {
		return
	}
	defer r.c.slots.Release(1)
	f := x.reconcile(ctx)
	if ctx.Err() != nil {
		return // the next daemon goes on from what is there
	}
	x.end(f)
}

// attempt prepares one; it is nil while the repository is suspended.
func (r *repository) attempt(by string, requests []request) *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &attempt{repository: r, by: by, began: time.Now().UTC()}
	for _, q := range requests {
		x.by, x.force, x.allowRewrite = q.by, x.force || q.force, x.allowRewrite || q.allowRewrite
	}
	if r.state.Suspended || r.def.Suspend {
		r.state.NextRun = x.began.Add(time.Duration(r.def.Interval))
		return nil
	}
	x.def, x.skip = forHost(r.def, r.labels)
	return x
}

// end turns the outcome into conditions, history, the next run, and news for those who want to know.
func (x *attempt) end(f *failure) {
	now := time.Now().UTC()
	revision := x.rev.ID
	if f == nil && x.rev.ID == "" { // nothing new
		x.update(func(s *status.Repository) {
			s.LastRun, s.NextRun = x.began, now.Add(jittered(time.Duration(x.def.Interval)))
			if c := s.Condition(status.Ready); c.Reason == status.DependencyNotReady || c.Reason == status.FetchFailed || c.Reason == status.NotFound {
				s.Failures = 0
				s.Set(now, x.settledCondition(s), s.Attempted.ID) // the server answers again
			}
		})
		x.c.finished(x, nil)
		return
	}
	if f != nil && f.condition != status.Ready {
		x.set(f.condition, status.False, f.reason, x.redact(f.Error()))
	}
	x.update(func(s *status.Repository) {
		s.LastRun = x.began
		if revision != "" {
			s.Settings = x.settings()
		}
		if f == nil {
			s.Failures, s.Verdict, s.Followed = 0, "", x.followed()
			s.NextRun = now.Add(jittered(time.Duration(x.def.Interval)))
			s.Set(now, status.Condition{Type: status.Ready, Status: status.True, Reason: status.Succeeded, Message: "revision " + x.rev.Short() + " is applied"}, revision)
		} else {
			s.Failures++
			s.NextRun = now.Add(x.distance(s.Failures, f))
			if f.lasting {
				s.Verdict = revision
			} else {
				s.Verdict = ""
			}
			s.Set(now, status.Condition{Type: status.Ready, Status: status.False, Reason: f.reason, Message: x.redact(f.Error())}, revision)
		}
		if revision == "" || repeats(s, x, f) {
			return
		}
		e := status.Entry{Time: now, Revision: x.rev, By: x.by, Outcome: status.Succeeded, Stacks: x.changed, Took: now.Sub(x.began)}
		if f != nil {
			e.Outcome, e.Message = f.reason, x.redact(f.Error())
		}
		s.Record(e)
	})
	x.keep()
	x.c.finished(x, f)
}

// repeats tells whether the history ends with the very same already: a retry that failed in the same way, or a look at what
// is applied.
func repeats(s *status.Repository, x *attempt, f *failure) bool {
	if len(s.History) == 0 {
		return false
	}
	last := s.History[len(s.History)-1]
	outcome := status.Succeeded
	if f != nil {
		outcome = f.reason
	}
	return last.Revision.ID == x.rev.ID && last.Outcome == outcome && (f != nil || len(x.changed) == 0)
}

// settledCondition is Ready as the last attempt that had a revision left it.
func (x *attempt) settledCondition(s *status.Repository) status.Condition {
	c := status.Condition{Type: status.Ready, Status: status.True, Reason: status.Succeeded, Message: "revision " + s.Applied.Short() + " is applied"}
	if s.Verdict != "" && s.Verdict == s.Attempted.ID {
		for _, kind := range []string{status.Verified, status.Applied} {
			if bad := s.Condition(kind); bad.Status == status.False {
				c.Status, c.Reason, c.Message = bad.Status, bad.Reason, bad.Message
			}
		}
	}
	return c
}

// The distance of retries after failures that may go away by themselves.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
)

// distance of the next attempt after failures in a row. One that waits for another commit, or for another repository that
// wakes it when it is ready, looks at its interval.
func (x *attempt) distance(failures int, f *failure) time.Duration {
	interval := time.Duration(x.def.Interval)
	if f.lasting || f.reason == status.DependencyNotReady {
		return jittered(interval)
	}
	d := firstRetry << min(failures-1, 10)
	return jittered(min(d, max(lastRetry, interval)))
}

// jittered is a duration of which up to a tenth is left to chance, so that many hosts don't ask one server at once.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

func (x *attempt) set(kind, value, reason, message string) {
	s := x.snapshot()
	if c := s.Condition(kind); c.Status == value && c.Reason == reason && c.Message == message {
		return
	}
	x.update(func(s *status.Repository) {
		s.Set(time.Now().UTC(), status.Condition{Type: kind, Status: value, Reason: reason, Message: message}, x.rev.ID)
	})
}

func (x *attempt) tell(kind, reason, message string) {
	x.update(func(s *status.Repository) {
		s.Tell(status.Event{Time: time.Now().UTC(), Type: kind, Reason: reason, Message: message, Revision: x.rev.ID})
	})
}

// settings is a digest of all that decides about a revision beside its content.
func (x *attempt) settings() string {
	return digest([]any{x.def, x.skip, x.c.keysDigest()})[:16]
}

// followed is a digest of where revisions come from.
func (x *attempt) followed() string { return digest([]any{x.def.URL, x.def.Ref})[:16] }

// redact takes decrypted values out of a text.
func (x *attempt) redact(text string) string {
	for _, value := range x.secret {
		if len(value) > 3 {
			text = strings.ReplaceAll(text, value, "***")
		}
	}
	return text
}

func compare(a, b string) int { return strings.Compare(a, b) }

// newRepository takes over what is kept of it.
func (c *Controller) newRepository(def declare.Repository, declared string) (*repository, error) {
	dir := filepath.Join(c.opts.Root, def.Name)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	state, err := loadState(dir, def.Name)
	if err != nil {
		return nil, err
	}
	r := &repository{c: c, name: def.Name, dir: dir, state: state, wake: make(chan struct{}, 1), done: make(chan struct{})}
	return r, r.define(def, declared, c.file.Labels)
}

// define changes what is followed, before the goroutine starts.
func (r *repository) define(def declare.Repository, declared string, labels map[string]string) error {
	def = def.WithDefaults()
	r.def, r.declared, r.labels = def, declared, labels
	r.state.Definition, r.state.Declared, r.state.Released = def, declared, false
	r.store = &checkout.Store{Dir: r.dir, Name: r.name, MaxSize: def.MaxSize}
	if !strings.HasPrefix(def.URL, "oci:") {
		r.src = source.NewGit(filepath.Join(r.dir, "git"), def)
		return nil
	}
	if r.c.opts.Artifact == nil {
		return errors.New("OCI artifacts are not supported here")
	}
	r.src = r.c.opts.Artifact(filepath.Join(r.dir, "artifact"), def)
	return nil
}

func clone(s status.Repository) status.Repository {
	s.Conditions = append([]status.Condition(nil), s.Conditions...)
	s.Stacks = append([]status.Stack(nil), s.Stacks...)
	s.History = append([]status.Entry(nil), s.History...)
	s.Events = append([]status.Event(nil), s.Events...)
	return s
}

// String is for messages.
func (r *repository) String() string { return fmt.Sprintf("repository %s", r.name) }
