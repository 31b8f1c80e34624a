package server

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child, or adopted child, held by a pidfd: it can be signalled without hitting another that got its pid, and
// waited for without a thread.
type process struct {
	pid int
	fd  *os.File
}

func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.10
		if fd, err = unix.PidfdOpen(pid, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	return &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// waitUntil waits for the process to end, and returns false when the deadline comes first; the zero time is none.
func (p *process) waitUntil(deadline time.Time) bool {
	if err := p.fd.SetReadDeadline(deadline); err != nil {
		logf("waiting for %d: %v", p.pid, err)
	}
	return !errors.Is(p.waitOnce(), os.ErrDeadlineExceeded)
}

// wait returns when the process has ended; it is not reaped yet.
func (p *process) wait() {
	if err := p.waitOnce(); err != nil {
		logf("waiting for %d: %v", p.pid, err)
	}
}

func (p *process) waitOnce() error {
	raw, err := p.fd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(ready, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
	}
	return err
}

// ended tells whether the process has ended.
func (p *process) ended() bool {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return true // closed, since it was reaped
	}
	n := 0
	err = raw.Control(func(fd uintptr) { n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) })
	return n > 0 || err != nil
}

// signal sends sig; one that has ended already is no error.
func (p *process) signal(sig syscall.Signal) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err = raw.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(failed, unix.ESRCH) {
		return nil
	}
	return os.NewSyscallError("pidfd_send_signal", failed)
}

func (p *process) close() { _ = p.fd.Close() }

// exitCode is 128+signal for a process killed by one.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
