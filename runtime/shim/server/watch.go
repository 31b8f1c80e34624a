package server

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/runtime/shim/internal/wire"
)

// watcher queues events for one client, so that a slow one holds nobody up.
type watcher struct {
	mu   sync.Mutex
	list []shim.Event
	wake chan struct{}
}

// maxQueued events wait for a client that doesn't read before its connection is given up; it will watch anew.
const maxQueued = 10000

func (w *watcher) push(e shim.Event) {
	w.mu.Lock()
	w.list = append(w.list, e)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []shim.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.list
	w.list = nil
	return list
}

// startWatch subscribes the client, then tells it every state there is. A change in between comes twice rather than never.
func (c *connection) startWatch() {
	s := c.server
	w := &watcher{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	all := s.list()
	s.mu.Unlock()
	for _, each := range all {
		each.mu.Lock()
		if !each.released {
			w.push(shim.Event{Kind: shim.KindState, Time: time.Now(), State: each.state})
		}
		each.mu.Unlock()
	}
	go c.sendEvents(w)
}

func (c *connection) sendEvents(w *watcher) {
	defer func() {
		c.server.mu.Lock()
		delete(c.server.watchers, w)
		c.server.mu.Unlock()
		_ = c.wire.Close()
	}()
	for {
		select {
		case <-w.wake:
		case <-c.gone:
			return
		}
		list := w.take()
		if len(list) > maxQueued {
			return
		}
		for _, e := range list {
			raw, err := json.Marshal(e)
			if err != nil || c.wire.Write(wire.Frame{Event: raw}) != nil {
				return
			}
		}
	}
}

// publish tells every watcher; the container's mu is held, so that its events keep their order.
func (s *Server) publish(kind string, state shim.State) {
	e := shim.Event{Kind: kind, Time: time.Now(), State: state}
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		w.push(e)
	}
}
