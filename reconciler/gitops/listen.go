package gitops

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/netutil"

	"github.com/stack-run/stack/reconciler/gitops/webhook"
)

// connections at a time: a flood waits in the kernel.
const connections = 64

// listener is the HTTP server for webhooks and metrics.
type listener struct {
	address string
	stop    func()
}

// listen serves where the declared file says, or nowhere; the caller holds change.
func (c *Controller) listen(address string) {
	if c.listening.address == address {
		return
	}
	if c.listening.stop != nil {
		c.listening.stop()
	}
	c.listening = listener{}
	if address == "" {
		return
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		c.opts.Logf("gitops: listen for webhooks: %v", err) // the next look at the file tries again
		return
	}
	server := &http.Server{
		Handler:           c.handler(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	done := make(chan struct{})
	c.tasks.Go(func() {
		defer close(done)
		if err := server.Serve(netutil.LimitListener(l, connections)); !errors.Is(err, http.ErrServerClosed) {
			c.opts.Logf("gitops: webhooks: %v", err)
		}
	})
	c.listening = listener{address: address, stop: func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-done
	}}
}

func (c *Controller) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /hooks/{name}", c.hooks)
	if c.opts.Metrics != nil {
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
			// The listener may be open to the world, for webhooks: what repositories there are is not for it.
			from, err := netip.ParseAddrPort(r.RemoteAddr)
			if a := from.Addr().Unmap(); err != nil || !a.IsLoopback() && !a.IsPrivate() {
				http.NotFound(w, r)
				return
			}
			c.opts.Metrics.ServeHTTP(w, r)
		})
	}
	return mux
}

func (c *Controller) newHooks() *webhook.Handler {
	return &webhook.Handler{
		Secret: c.webhookSecret,
		Wake:   c.hooked,
		Count:  func(outcome string) { c.metrics.webhooks.WithLabelValues(outcome).Inc() },
	}
}

// webhookSecret is read at each call: a rotated one counts at once.
func (c *Controller) webhookSecret(name string) []byte {
	r := c.find(name)
	if r == nil || r.definition().Webhook.SecretFile == "" {
		return nil
	}
	secret, err := os.ReadFile(r.definition().Webhook.SecretFile)
	if err != nil {
		c.opts.Logf("gitops %s: webhook: %v", name, err)
		return nil
	}
	return bytes.TrimSpace(secret)
}

// hookDistance is how often webhooks may wake one repository. What comes sooner wakes it later, all at once.
const hookDistance = time.Second

// hooked wakes a repository, at once unless it was woken a moment ago.
func (c *Controller) hooked(name string) {
	r := c.find(name)
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hook != nil {
		return // one is on its way
	}
	r.hook = time.AfterFunc(time.Until(r.hookedAt.Add(hookDistance)), func() {
		r.mu.Lock()
		r.hook, r.hookedAt = nil, time.Now()
		r.mu.Unlock()
		r.ask(request{by: "webhook"})
	})
}
