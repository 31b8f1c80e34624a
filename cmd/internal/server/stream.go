package server

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

const ndjson = "application/x-ndjson"

// events runs a long operation and sends what it reports, one line each and at once; the last line is its result.
func (s *Server) events(w http.ResponseWriter, r *http.Request, run func(ctx context.Context, send func(api.Event)) (api.Result, error)) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", ndjson)
	flusher := http.NewResponseController(w)
	encoder := json.NewEncoder(w)

	var mu sync.Mutex
	write := func(e api.Event) {
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		mu.Lock()
		defer mu.Unlock()
		if encoder.Encode(e) != nil || flusher.Flush() != nil {
			cancel() // nobody reads any more
		}
	}

	var result api.Result
	err := s.guard(r.URL.Path, func() (err error) {
		result, err = run(ctx, write)
		return err
	})
	write(api.Event{Kind: "result", Result: &result, Error: api.AsError(err)})
}

// maxPending is how many bytes of lines may wait for a slow reader before the sender has to wait too.
const maxPending = 1 << 20

// lines sends JSON values, one a line, that arrive faster than each is worth a write: while one batch is written the
// next gathers. An error before the first line is an ordinary error reply, a later one the stream's trailer.
type lines struct {
	w       http.ResponseWriter
	cancel  context.CancelFunc
	mu      sync.Mutex
	changed *sync.Cond
	pending []byte
	closed  bool  // by the sender: nothing follows
	err     error // of the connection
	written bool
	done    chan struct{}
}

// items runs a producer of lines for as long as the client reads.
func items[T any](s *Server, w http.ResponseWriter, r *http.Request, run func(ctx context.Context, send func(T) error) error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &lines{w: w, cancel: cancel, done: make(chan struct{})}
	out.changed = sync.NewCond(&out.mu)
	w.Header().Set("Content-Type", ndjson)
	go out.pump()

	err := s.guard(r.URL.Path, func() error {
		return run(ctx, func(value T) error {
			line, err := json.Marshal(value)
			if err != nil {
				return err
			}
			return out.add(append(line, '\n'))
		})
	})
	out.close()
	if r.Context().Err() != nil || err == nil {
		return // the client went away, which is how a follower ends
	}
	if !out.written {
		writeError(w, err)
		return
	}
	if text, jsonErr := json.Marshal(api.AsError(err)); jsonErr == nil {
		w.Header().Set(http.TrailerPrefix+api.ErrorTrailer, string(text))
	}
}

// add queues a line, waiting while too much is queued.
func (l *lines) add(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > maxPending && l.err == nil {
		l.changed.Wait()
	}
	if l.err != nil {
		return l.err
	}
	l.pending = append(l.pending, line...)
	l.changed.Broadcast()
	return nil
}

// close waits until all lines are written, or can't be.
func (l *lines) close() {
	l.mu.Lock()
	l.closed = true
	l.changed.Broadcast()
	l.mu.Unlock()
	<-l.done
}

// pump writes batches until the sender is done or the connection broke.
func (l *lines) pump() {
	defer close(l.done)
	flusher := http.NewResponseController(l.w)
	var batch []byte
	for {
		l.mu.Lock()
		for len(l.pending) == 0 && !l.closed {
			l.changed.Wait()
		}
		if len(l.pending) == 0 {
			l.mu.Unlock()
			return
		}
		batch, l.pending = l.pending, batch[:0]
		l.written = true
		l.changed.Broadcast()
		l.mu.Unlock()

		_, err := l.w.Write(batch)
		if err == nil {
			err = flusher.Flush()
		}
		if err != nil {
			l.mu.Lock()
			l.err = err
			l.changed.Broadcast()
			l.mu.Unlock()
			l.cancel()
			return
		}
	}
}

// writeJSON answers with one value.
func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value) // fails only when the client is gone
}

// writeError answers with an error and the status that its code has.
func writeError(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.Status())
	json.NewEncoder(w).Encode(e)
}
