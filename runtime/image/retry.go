package image

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// errStalled is why a connection without a byte for Options.Stall was closed.
var errStalled = errors.New("the connection went silent")

// isStalled covers silence before an answer's header too, which net/http reports as a time-out.
func isStalled(err error) bool {
	var ne net.Error
	return errors.Is(err, errStalled) || (errors.As(err, &ne) && ne.Timeout())
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// pause waits before the next try: 0.2 s doubling up to 5 s, give or take a quarter.
func pause(ctx context.Context, try int) error {
	d := min(200*time.Millisecond<<min(try-1, 5), 5*time.Second)
	d += time.Duration(rand.Int64N(int64(d)/2)) - d/4
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
