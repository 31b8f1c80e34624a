package server

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/logs"
)

// output takes what one run of a container writes to its log and to attached clients.
type output struct {
	id  string
	log *logs.Writer

	mu    sync.Mutex
	sinks []*sink
	any   atomic.Bool // there are sinks: the usual case asks no lock

	copies  sync.WaitGroup
	sources []*os.File
	ended   bool        // under mu: nothing more is copied
	failing atomic.Bool // to say once that the log can't be written
}

// buffers are taken while there is something to read, so that silent containers hold none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copy reads one stream until all its writers are gone.
func (o *output) copy(f *os.File, stream string) {
	o.read(f, o.log.Stream(stream), func(p []byte) {
		if o.any.Load() {
			o.tee(stream, p)
		}
	}, nil)
}

// read logs what comes from f until all its writers are gone. also gets each piece, and end is called in the end.
func (o *output) read(f *os.File, s *logs.Stream, also func([]byte), end func()) {
	o.sources = append(o.sources, f)
	o.copies.Go(func() {
		defer f.Close()
		for readSome(f, func(p []byte) {
			o.note(s.Write(p))
			if also != nil {
				also(p)
			}
		}) {
		}
		o.note(s.Flush())
		if end != nil {
			end()
		}
	})
}

// hook takes what a hook writes to the container's log, marked with the hook's name; attached clients, which want what the
// container prints, don't get it. The returned channel is closed when all
// its writers are gone.
func (o *output) hook(name string, stdout, stderr *os.File) <-chan struct{} {
	read := make(chan struct{})
	var streams sync.WaitGroup
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		closeFiles([]*os.File{stdout, stderr})
		close(read)
		return read
	}
	streams.Add(2)
	o.read(stdout, o.log.Marked(logs.Stdout, hookAttr, name), nil, streams.Done)
	o.read(stderr, o.log.Marked(logs.Stderr, hookAttr, name), nil, streams.Done)
	go func() {
		streams.Wait()
		close(read)
	}()
	return read
}

// hookAttr is the attribute of a log entry that names the hook it comes from.
const hookAttr = "hook"

// readSome waits until f has data and passes it to use. It returns false at the end: of the file, of the terminal, or by
// the read deadline.
func readSome(f *os.File, use func([]byte)) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	more := false
	err = raw.Read(func(fd uintptr) bool {
		p := buffers.Get().(*[]byte)
		defer buffers.Put(p)
		for {
			n, err := unix.Read(int(fd), *p)
			switch {
			case err == unix.EINTR: //nolint:errorlint // errno
				continue
			case err == unix.EAGAIN: //nolint:errorlint // errno
				return false
			case err == nil && n > 0:
				more = true
				use((*p)[:n])
			}
			return true
		}
	})
	return err == nil && more
}

// note says once that output is lost, and that it is kept again.
func (o *output) note(err error) {
	if err != nil && !o.failing.Swap(true) {
		logf("%s: %v", o.id, err)
	} else if err == nil && o.failing.Load() {
		o.failing.Store(false)
	}
}

// drain waits until everything that was written has been read. Processes that are no part of the container may hold its
// output open (they got it by a socket, say): they are waited for only a moment.
func (o *output) drain(patience time.Duration) {
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	done := make(chan struct{})
	go func() {
		o.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		for _, f := range o.sources {
			_ = f.SetReadDeadline(time.Now())
		}
		<-done
	}
	if err := o.log.Close(); err != nil {
		logf("%s: log: %v", o.id, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.sinks {
		s.close()
	}
	o.sinks = nil
	o.any.Store(false)
}

// sink is one attached client's copy of the output.
type sink struct {
	stdout, stderr *os.File
}

func (s *sink) close() {
	_ = s.stdout.Close()
	_ = s.stderr.Close()
}

// attach adds a sink and owns its files from then on.
func (o *output) attach(stdout, stderr *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sinks = append(o.sinks, &sink{stdout, stderr})
	o.any.Store(true)
}

// tee copies to the attached clients. One that takes nothing for sinkPatience is dropped: the container waits no longer.
func (o *output) tee(stream string, p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.sinks[:0]
	for _, s := range o.sinks {
		f := s.stdout
		if stream == logs.Stderr {
			f = s.stderr
		}
		if writeAll(f, p) != nil {
			s.close()
			continue
		}
		kept = append(kept, s)
	}
	clear(o.sinks[len(kept):])
	o.sinks = kept
	o.any.Store(len(kept) > 0)
}

const sinkPatience = 10 * time.Second

var errSlow = errors.New("the attached client does not read")

// writeAll writes to a file whose blocking mode belongs to someone else: it writes only what poll(2) says will not
// block, in pieces that a writable pipe takes whole.
func writeAll(f *os.File, p []byte) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for len(p) > 0 && failed == nil {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			n, err := unix.Poll(ready, int(sinkPatience.Milliseconds()))
			switch {
			case err == unix.EINTR: //nolint:errorlint // errno
				continue
			case err != nil:
				failed = err
			case n == 0:
				failed = errSlow
			case ready[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
				failed = unix.EPIPE
			default:
				n, err := unix.Write(int(fd), p[:min(len(p), 4096)])
				if err != nil && err != unix.EAGAIN && err != unix.EINTR { //nolint:errorlint // errno
					failed = err
				}
				p = p[max(n, 0):]
			}
		}
	})
	return errors.Join(err, failed)
}
