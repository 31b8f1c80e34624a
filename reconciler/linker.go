package reconciler

import (
	"context"
	"sync"

	"github.com/stack-run/stack/netdriver"
)

// linker connects sandboxes to their networks in batches: requests that arrive while one batch is on its way form the
// next, so that many containers starting at once cost few netlink and nftables transactions, and a single one waits
// for nobody.
type linker struct {
	networks *netdriver.Manager

	mu      sync.Mutex
	busy    bool
	waiting []*linkRequest
}

type linkRequest struct {
	sandbox netdriver.Sandbox
	done    chan struct{}
	err     error
}

func newLinker(networks *netdriver.Manager) *linker { return &linker{networks: networks} }

// connect sets up a sandbox's endpoints and publishes their ports.
func (l *linker) connect(ctx context.Context, sb netdriver.Sandbox) (netdriver.Sandbox, error) {
	req := &linkRequest{sandbox: sb, done: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, req)
	lead := !l.busy
	l.busy = true
	l.mu.Unlock()
	if lead {
		go l.work(context.WithoutCancel(ctx))
	}
	<-req.done
	return req.sandbox, req.err
}

// work serves batches until none waits.
func (l *linker) work(ctx context.Context) {
	for {
		l.mu.Lock()
		batch := l.waiting
		l.waiting = nil
		if len(batch) == 0 {
			l.busy = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.serve(ctx, batch)
	}
}

// serve connects a batch. When that fails and the batch holds more than one, each is tried alone, so that one's
// trouble is not everyone's.
func (l *linker) serve(ctx context.Context, batch []*linkRequest) {
	sandboxes := make([]netdriver.Sandbox, len(batch))
	for i, req := range batch {
		sandboxes[i] = req.sandbox
	}
	done, err := l.networks.Connect(ctx, sandboxes)
	if err == nil {
		err = l.networks.Publish(ctx, done)
	}
	if err != nil && len(batch) > 1 {
		for _, req := range batch {
			l.serve(ctx, []*linkRequest{req})
		}
		return
	}
	for i, req := range batch {
		if err == nil {
			req.sandbox = done[i]
		}
		req.err = err
		close(req.done)
	}
}
