package reconciler

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stack-run/stack/planner"
)

// Back-off of the loop's actions, by address: after a failure, and after a repair that had to be done again soon after.
const (
	firstRetry   = time.Second
	longestRetry = 5 * time.Minute
	// settled is how long something must have been left alone to count as new when it comes again.
	settled = 2 * time.Second
	// unsettled is how often in a row something is repaired before that waits.
	unsettled = 3
)

// trouble is what is known of one address's action that failed, or came again and again.
type trouble struct {
	Failures int
	Last     time.Time // when it was tried last
	Next     time.Time // before then it is not tried
	Err      error     // nil: it succeeded, and had to be done again
	Since    time.Time // of the first in a row
}

// troubles are those of one stack.
type troubles struct {
	mu sync.Mutex
	by map[string]*trouble
}

// key tells actions apart. What was drifted in another way is not the same again.
func key(a planner.Action) string {
	if a.Reason == planner.Drifted {
		return string(a.Kind) + " " + a.Address + " " + a.Detail
	}
	return string(a.Kind) + " " + a.Address
}

// tried notes how an action ended.
func (t *troubles) tried(a planner.Action, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[string]*trouble{}
	}
	known := t.by[key(a)]
	if known == nil || err == nil && now.Sub(known.Last) > settled {
		known = &trouble{Since: now}
		t.by[key(a)] = known
	}
	known.Failures++
	known.Last, known.Err, known.Next = now, err, time.Time{}
	switch {
	case err != nil:
		known.Next = now.Add(retry(known.Failures - 1))
	case known.Failures > unsettled:
		known.Next = now.Add(retry(known.Failures - unsettled - 1))
	}
}

// of returns what is known of an action; nil where it may be tried without further thought.
func (t *troubles) of(a planner.Action) *trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.by[key(a)]
	if known == nil {
		return nil
	}
	copied := *known
	return &copied
}

// forget drops what is no trouble any more: actions that no plan wants, and that were not done a moment ago.
func (t *troubles) forget(plan planner.Plan, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := map[string]bool{}
	for _, a := range plan.Actions {
		wanted[key(a)] = true
	}
	for k, known := range t.by {
		if !wanted[k] && (known.Err != nil || now.Sub(known.Last) > settled) {
			delete(t.by, k)
		}
	}
}

// next is when the first of them may be tried again; zero when none waits.
func (t *troubles) next(now time.Time) (first time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.by {
		if known.Next.After(now) && (first.IsZero() || known.Next.Before(first)) {
			first = known.Next
		}
	}
	return first
}

// retry doubles with each failure, up to a limit, and differs by chance, so that many don't come at once.
func retry(failures int) time.Duration {
	delay := firstRetry
	for range failures {
		if delay *= 2; delay >= longestRetry {
			delay = longestRetry
			break
		}
	}
	return jitter(delay)
}

// jitter is d, give or take a fifth.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5)
}
