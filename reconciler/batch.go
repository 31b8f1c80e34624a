package reconciler

import "sync"

// batcher joins requests that come while one batch is being served into the next one: many at once cost few transactions,
// and a single one waits for nobody.
type batcher[T any] struct {
	// serve does a batch and returns an error for all of it; each request is then tried alone.
	serve func([]*T) error

	mu      sync.Mutex
	busy    bool
	waiting []*batched[T]
}

type batched[T any] struct {
	request *T
	done    chan error
}

// do has a request served, alone or with others, and returns when it is.
func (b *batcher[T]) do(request *T) error {
	r := &batched[T]{request: request, done: make(chan error, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	lead := !b.busy
	b.busy = true
	b.mu.Unlock()
	if lead {
		go b.work()
	}
	return <-r.done
}

// work serves batches until none waits.
func (b *batcher[T]) work() {
	for {
		b.mu.Lock()
		batch := b.waiting
		b.waiting = nil
		if len(batch) == 0 {
			b.busy = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		b.run(batch)
	}
}

func (b *batcher[T]) run(batch []*batched[T]) {
	requests := make([]*T, len(batch))
	for i, r := range batch {
		requests[i] = r.request
	}
	err := b.serve(requests)
	if err != nil && len(batch) > 1 { // one's trouble is not everyone's
		for _, r := range batch {
			b.run([]*batched[T]{r})
		}
		return
	}
	for _, r := range batch {
		r.done <- err
	}
}
