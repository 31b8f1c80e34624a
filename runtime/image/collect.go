package image

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// collector runs containerd's garbage collection when nothing is being brought in: what a pull has fetched and unpacked is
// not referred to until its name is recorded.
type collector struct {
	busy    sync.RWMutex // read-held by pulls and loads, held by a collection
	pending atomic.Bool
}

func (c *collector) hold() { c.busy.RLock() }

// release ends a hold. The last one collects the garbage that waited for it.
func (s *Store) release() {
	s.garbage.busy.RUnlock()
	if !s.garbage.pending.Load() {
		return
	}
	if err := s.collect(context.WithoutCancel(s.base)); err != nil {
		s.opts.Logf("image store: collecting garbage: %v", err)
	}
}

// collect removes content and snapshots nothing refers to: at once, or when the last pull under way ends.
func (s *Store) collect(ctx context.Context) error {
	s.garbage.pending.Store(true)
	if !s.garbage.busy.TryLock() {
		return nil
	}
	defer s.garbage.busy.Unlock()
	s.garbage.pending.Store(false)
	if _, err := s.db.GarbageCollect(ctx); err != nil {
		return fmt.Errorf("image store: garbage: %w", err)
	}
	s.lowers.Clear()
	return nil
}
