package server

import (
	"context"
	"net/http"

	"github.com/stack-run/stack/cmd/internal/api"
)

// StatusBackend is the part of a Backend that compares stacks with what they are to be.
type StatusBackend interface {
	Status(ctx context.Context, stack string) (api.StackStatus, error)
	// WatchStatus sends the status as it is, then one whenever it has changed, until ctx ends.
	WatchStatus(ctx context.Context, stack string, send func(api.StackStatus) error) error
	// Suspend has drift reported, and not repaired, or takes that back.
	Suspend(ctx context.Context, stack string, suspended bool) error
}

func (s *Server) routeStatus(route func(string, handler)) {
	b := s.backend
	const stack = "/v1/stacks/{stack}"
	route("GET "+stack+"/status", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Status(r.Context(), r.PathValue("stack"))
	})
	route("GET "+stack+"/status/watch", func(w http.ResponseWriter, r *http.Request) (any, error) {
		items(s, w, r, func(ctx context.Context, send func(api.StackStatus) error) error {
			return b.WatchStatus(ctx, r.PathValue("stack"), send)
		})
		return nil, nil
	})
	route("POST "+stack+"/suspend", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, b.Suspend(r.Context(), r.PathValue("stack"), true)
	})
	route("POST "+stack+"/resume", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, b.Suspend(r.Context(), r.PathValue("stack"), false)
	})
}
