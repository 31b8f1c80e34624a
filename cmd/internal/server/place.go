package server

import (
	"context"
	"net/http"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
)

// routePlace is the part of `watch` that the daemon does.
func (s *Server) routePlace(route func(string, handler)) {
	route("POST /v1/stacks/{stack}/place", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.PlaceRequest](w, r)
		if err == nil && req.Service == "" {
			err = missing("service")
		}
		if err != nil {
			return nil, err
		}
		return s.backend.Place(r.Context(), r.PathValue("stack"), req, peerRoot(r.Context()))
	})
}

// peerRoot is the root folder of who asks: its paths mean what they mean to it, whatever mount namespace it lives in. Where
// its process can't be seen from here it is our own.
func peerRoot(ctx context.Context) string {
	peer, ok := ctx.Value(peerKey{}).(unix.Ucred)
	if !ok || peer.Pid <= 0 {
		return "/"
	}
	return "/proc/" + strconv.Itoa(int(peer.Pid)) + "/root"
}
