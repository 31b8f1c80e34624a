package registrytest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Proxy is a connection to a registry that can be made bad.
type Proxy struct {
	Addr string

	next http.Handler
	quit chan struct{}
	mu   sync.Mutex
	onBlob,
	onAny func(w http.ResponseWriter, r *http.Request, next http.Handler)
	blobs []string // Range headers of the requests for blobs
}

// Proxy puts a proxy in front of the registry. It ends with the test.
func (r *Registry) Proxy(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{next: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.Addr}), quit: make(chan struct{})}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.quit)
		server.CloseClientConnections()
		server.Close()
	})
	p.Addr = server.Listener.Addr().String()
	return p
}

// Ref is an image's reference through the proxy.
func (p *Proxy) Ref(image string) string { return p.Addr + "/" + image }

// OnBlob handles requests for blobs from now on; nil passes them through.
func (p *Proxy) OnBlob(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onBlob = f
}

// OnAny handles all requests that OnBlob does not.
func (p *Proxy) OnAny(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onAny = f
}

// Ranges lists the Range headers of the requests for blobs so far, empty ones included.
func (p *Proxy) Ranges() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.blobs...)
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	handle := p.onAny
	if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
		p.blobs = append(p.blobs, r.Header.Get("Range"))
		handle = p.onBlob
	}
	p.mu.Unlock()
	if handle == nil {
		p.next.ServeHTTP(w, r)
		return
	}
	handle(w, r, p.next)
}

// DropAfter serves a request and cuts the connection after n bytes of the answer's body.
func (p *Proxy) DropAfter(w http.ResponseWriter, r *http.Request, n int64) {
	p.next.ServeHTTP(&limited{ResponseWriter: w, left: n, then: func() { panic(http.ErrAbortHandler) }}, r)
}

// StallAfter serves a request and falls silent after n bytes of the answer's body, until the client gives up.
func (p *Proxy) StallAfter(w http.ResponseWriter, r *http.Request, n int64) {
	p.next.ServeHTTP(&limited{ResponseWriter: w, left: n, then: func() {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-p.quit:
		}
		panic(http.ErrAbortHandler)
	}}, r)
}

// limited passes on so many bytes of a body and then does something else.
type limited struct {
	http.ResponseWriter
	left int64
	then func()
}

func (l *limited) Write(b []byte) (int, error) {
	n, err := l.ResponseWriter.Write(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	if l.left == 0 {
		l.ResponseWriter.(http.Flusher).Flush()
		l.then()
	}
	return n, err
}
