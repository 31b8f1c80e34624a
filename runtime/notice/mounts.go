package notice

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Mounts returns a function that waits for the next change of this process's mount table. It returns an error when ctx has
// ended.
func Mounts(ctx context.Context) (wait func() error, err error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	wake, waker, err := os.Pipe()
	if err != nil {
		table.Close()
		return nil, err
	}
	context.AfterFunc(ctx, func() { waker.Close() })
	return func() error {
		// The kernel says once that the table has changed since it was last asked.
		fds := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			if ctx.Err() != nil {
				table.Close()
				wake.Close()
				return ctx.Err()
			}
			if fds[0].Revents != 0 {
				return nil
			}
		}
	}, nil
}
