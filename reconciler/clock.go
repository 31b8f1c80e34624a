package reconciler

import (
	"context"
	"time"
)

// Clock is the time by which jobs run.
type Clock interface {
	Now() time.Time
	// Until returns a channel that is closed when it is t, and a function that gives the wait up.
	Until(t time.Time) (reached <-chan struct{}, stop func())
	// Changes sends whenever the clock was set, or the machine slept, until ctx ends: waits may be wrong by that.
	Changes(ctx context.Context) <-chan struct{}
}

// HostClock is the host's own.
type HostClock struct{}

// Now implements Clock.
func (HostClock) Now() time.Time { return time.Now() }

// Until implements Clock.
func (HostClock) Until(t time.Time) (<-chan struct{}, func()) {
	reached := make(chan struct{})
	timer := time.AfterFunc(time.Until(t), func() { close(reached) })
	return reached, func() { timer.Stop() }
}

// Changes implements Clock, and tells of none: who may ask the kernel does better.
func (HostClock) Changes(context.Context) <-chan struct{} { return nil }
