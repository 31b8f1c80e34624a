package notice

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mounts returns a function that waits until this process's mount table has changed since it last returned. It returns an
// error when ctx has ended.
func Mounts(ctx context.Context) (wait func() error, err error) {
	// The kernel says of each open table once that it has changed, to whoever asks. os.Open would have Go's poller ask, too, which
	// now and then was the one that was told.
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watch the mount table: %w", err)
	}
	table := os.NewFile(uintptr(fd), "mountinfo")
	wake, waker, err := os.Pipe()
	if err != nil {
		table.Close()
		return nil, err
	}
	context.AfterFunc(ctx, func() { waker.Close() })
	return func() error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
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
