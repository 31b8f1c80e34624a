package image

import (
	"errors"
	"io"
	"sync"
)

// errAbandoned ends a live stream whose download began anew; the blob itself may still arrive.
var errAbandoned = errors.New("the download began anew")

// liveSink connects a download to a consumer that is started only if and when the download begins with the first byte. The
// download may belong to another caller's work and may outlive this caller: settle cuts the connection.
type liveSink struct {
	consume func(io.Reader) error

	mu      sync.Mutex
	settled bool
	pipe    *pipe
	result  chan error
}

// start begins the consumer and returns where to write; nil where nobody wants to follow.
func (l *liveSink) start() *pipe {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.settled {
		return nil
	}
	l.pipe, l.result = newPipe(), make(chan error, 1)
	go func() {
		err := l.consume(l.pipe)
		l.pipe.leave()
		l.result <- err
	}()
	return l.pipe
}

// settle waits for the consumer to end and returns its result; used is false when it never started. With cut, what it
// consumes ends where it is.
func (l *liveSink) settle(cut bool) (used bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = true
	if l.pipe == nil {
		return false, nil
	}
	if cut {
		l.pipe.cut()
	}
	return true, <-l.result
}
