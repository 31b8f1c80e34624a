package shim

import (
	"context"
	"sync"
)

// queue decouples the connection's reader from a slow watcher: replies must not wait behind events.
type queue struct {
	mu     sync.Mutex
	list   []Event
	wake   chan struct{} // one element: something changed
	closed bool
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(e Event) {
	q.mu.Lock()
	q.list = append(q.list, e)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// drain sends what is pushed to out until the queue is closed and empty, or ctx ends; then it closes out.
func (q *queue) drain(ctx context.Context, out chan<- Event) {
	defer close(out)
	for {
		q.mu.Lock()
		list, closed := q.list, q.closed
		q.list = nil
		q.mu.Unlock()
		for _, e := range list {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if closed && len(list) == 0 {
			return
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return
		}
	}
}
