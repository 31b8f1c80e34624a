package daemon

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/reconciler"
)

// clock is the host's, whose changes the kernel tells.
type clock struct{ reconciler.HostClock }

// never is when the timer of Changes would go off by itself.
var never = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// Changes asks the kernel: a timer that is cancelled when the clock is set.
func (clock) Changes(ctx context.Context) <-chan struct{} {
	changes := make(chan struct{}, 1)
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return changes // waits are as good as without
	}
	arm := func() error {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(never.UnixNano())}
		return unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil)
	}
	if err := arm(); err != nil {
		unix.Close(fd)
		return changes
	}
	timer := os.NewFile(uintptr(fd), "clock")
	context.AfterFunc(ctx, func() { timer.Close() })
	go func() {
		var expirations [8]byte
		for {
			_, err := timer.Read(expirations[:])
			if ctx.Err() != nil {
				return
			}
			if err != nil && arm() != nil {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes
}
