package webhook

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Handler answers POST /hooks/{name}. Whatever is wrong gets the same answer: nobody learns which repositories there are.
type Handler struct {
	// Secret of a repository; empty for one without, or that is not there.
	Secret func(name string) []byte
	// Wake is called for what is genuine. It coalesces.
	Wake func(name string)
	// Count notes how each call ended: accepted, forged, limited.
	Count func(outcome string)

	mu     sync.Mutex
	forges map[string]*rate.Limiter // by the address that forgeries came from
}

// The forgeries that an address may send before it is not listened to for a while.
const (
	forgeries    = 10
	forgeryPause = 6 * time.Second // for one more
	addresses    = 1024            // remembered
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _, _ := net.SplitHostPort(r.RemoteAddr) // empty is as good as any
	limiter := h.limiter(from)
	name := r.PathValue("name")
	err := Verify(r.Header, http.MaxBytesReader(w, r.Body, MaxBody), h.Secret(name))
	var tooLong *http.MaxBytesError
	switch {
	case err != nil && limiter != nil && limiter.Tokens() < 1:
		// Only forgeries are held off: behind a proxy all callers have one address.
		h.Count("limited")
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many", http.StatusTooManyRequests)
	case errors.As(err, &tooLong):
		h.forged(from)
		http.Error(w, "too long", http.StatusRequestEntityTooLarge)
	case err != nil:
		h.forged(from)
		http.Error(w, "not accepted", http.StatusUnauthorized)
	default:
		h.Count("accepted")
		h.Wake(name)
		w.WriteHeader(http.StatusAccepted)
	}
}

func (h *Handler) limiter(from string) *rate.Limiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.forges[from]
}

func (h *Handler) forged(from string) {
	h.Count("forged")
	h.mu.Lock()
	defer h.mu.Unlock()
	limiter := h.forges[from]
	if limiter == nil {
		if h.forges == nil || len(h.forges) >= addresses {
			h.forges = map[string]*rate.Limiter{} // those who go on are soon in it again
		}
		limiter = rate.NewLimiter(rate.Every(forgeryPause), forgeries)
		h.forges[from] = limiter
	}
	limiter.Allow()
}
