package watch

import (
	"os"
	"time"
)

const (
	// absence is how long a file must be gone to count as removed: editors rename the old one away and the new one in.
	absence = 50 * time.Millisecond
	// patience is how long a file that is open for writing is waited for. A log that is never closed is looked at even so.
	patience = 500 * time.Millisecond
)

// change taken out of the tree, ready to be acted on.
type ready struct {
	path  string
	since time.Time
	gone  bool
}

// look takes the pending changes that are ready and tells when to look again at the others; zero is when woken.
func (t *tree) look(now time.Time, await func(path string) error) (all []ready, next time.Time) {
	t.mu.Lock()
	pending := t.pending
	t.pending = make(map[string]*change, len(pending))
	t.mu.Unlock()
	later := func(path string, c *change, when time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if newer := t.pending[path]; newer != nil {
			c.sure = c.sure || newer.sure
		}
		t.pending[path] = c
		if next.IsZero() || when.Before(next) {
			next = when
		}
	}
	for path, c := range pending {
		info, err := os.Lstat(path)
		if err != nil {
			if c.gone.IsZero() {
				c.gone = now
			}
			if now.Sub(c.gone) < absence {
				later(path, c, c.gone.Add(absence))
				continue
			}
			if t.unknown(path) {
				all = append(all, ready{path, c.since, true})
			}
			continue
		}
		c.gone = time.Time{}
		if info.Mode().IsRegular() && now.Sub(c.since) < patience && written(path) {
			// Looked at again after the watch is there: it may have been closed in between.
			if await(path) != nil || written(path) {
				c.sure = true
				later(path, c, c.since.Add(patience))
				continue
			}
		}
		if t.changed(path, stampOf(info)) || c.sure {
			all = append(all, ready{path, c.since, false})
		}
	}
	return all, next
}

// changed takes down how a path is and tells whether that is news.
func (t *tree) changed(path string, now stamp) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.known[path]
	t.known[path] = now
	return !ok || old != now
}

// unknown takes down that a path is gone and tells whether that is news.
func (t *tree) unknown(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.known[path]
	delete(t.known, path)
	return ok
}
