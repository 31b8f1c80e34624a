package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/stack-run/stack/runtime/shim"
)

// Container is a record with what is known of its process. Its methods are safe for concurrent use; View gives a copy.
// The record's maps and slices are replaced, never changed in place: copies share them.
type Container struct {
	dir            string
	stack, service string // as in the record; they never change

	mu     sync.Mutex
	record Record
	lines  int // of the record's file
	// written is the hash of its last line: a change that changes nothing is not written.
	written [sha256.Size]byte
	state   shim.State
	userns  string // path of the user namespace of its sandbox
	gone    bool   // removed; kept only by those who still hold the pointer
	// released says that the shim holds nothing of it any more, as far as this process knows.
	released bool
	layered  bool // its writable layer has been seen as a folder
	// changed is closed, and made anew, at each change of state.
	changed chan struct{}

	// op serialises what changes the container: start, stop, remove.
	op sync.Mutex

	placing placing
}

// View is a copy of a container's record and state at one moment.
type View struct {
	Record
	State shim.State
	Dir   string
}

// Running tells whether the container has a live process.
func (v View) Running() bool { return v.State.Status == shim.Running || v.State.Status == shim.Paused }

// Ended tells whether the container ran to its end with success.
func (v View) Ended() bool { return v.State.Status == shim.Exited && v.State.ExitCode == 0 }

// View copies what is known now.
func (c *Container) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return View{Record: c.record, State: c.state, Dir: c.dir}
}

func (c *Container) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.Name
}

// update changes the record and writes it.
func (c *Container) update(change func(*Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.record)
	if c.gone {
		return nil
	}
	data, err := json.Marshal(&c.record)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.record.Name, err)
	}
	sum := sha256.Sum256(data)
	if c.lines > 0 && sum == c.written {
		return nil
	}
	lines, err := writeRecordLine(c.dir, c.record.Name, append(data, '\n'), c.lines)
	if errors.Is(err, os.ErrNotExist) { // removed underneath us: what is known is the truth
		if err = os.MkdirAll(c.dir, 0o700); err == nil {
			lines, err = writeRecordLine(c.dir, c.record.Name, append(data, '\n'), 0)
		}
	}
	if c.lines = lines; err == nil {
		c.written = sum
	}
	return err
}

// setState takes over what the shim reported and tells whether it is news.
func (c *Container) setState(s shim.State) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || s == c.state {
		return false
	}
	if !s.Started.IsZero() {
		// What an earlier run was comes late; and a start's reply may come after the news of that run's end.
		if s.Started.Before(c.state.Started) || s.Started.Equal(c.state.Started) && c.state.Status == shim.Exited {
			return false
		}
	}
	c.state = s
	close(c.changed)
	c.changed = make(chan struct{})
	return true
}

// bury marks the container as removed and wakes those who wait for a change that won't come any more.
func (c *Container) bury() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		c.gone = true
		close(c.changed)
	}
}

// wait returns when the container's state satisfies done, with ErrNotFound when it was removed before that, or with the
// context's error.
func (c *Container) wait(ctx context.Context, done func(shim.State) bool) error {
	for {
		c.mu.Lock()
		ok, gone, changed := done(c.state), c.gone, c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		if gone {
			return fmt.Errorf("container %s was removed: %w", c.name(), ErrNotFound)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// RanFor is how long the last run took, zero while there was none.
func (v View) RanFor() time.Duration {
	if v.State.Started.IsZero() || v.State.Finished.Before(v.State.Started) {
		return 0
	}
	return v.State.Finished.Sub(v.State.Started)
}
