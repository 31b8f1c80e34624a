package server

import (
	"context"
	"net/http"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// GitOps does what requests about repositories ask for.
type GitOps interface {
	List(context.Context) (api.Repositories, error)
	Get(ctx context.Context, name string) (status.Repository, error)
	Add(ctx context.Context, r declare.Repository, replace bool) error
	Remove(ctx context.Context, name string, down, volumes bool) error
	// Sync reconciles and returns what came of it.
	Sync(ctx context.Context, name string, req api.SyncRequest) (status.Repository, error)
	Suspend(ctx context.Context, name string, suspended bool) error
}

func (s *Server) routeGitOps(route func(string, handler), g GitOps) {
	route("GET /v1/gitops", func(_ http.ResponseWriter, r *http.Request) (any, error) { return g.List(r.Context()) })
	const one = "/v1/gitops/{name}"
	route("GET "+one, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return g.Get(r.Context(), r.PathValue("name"))
	})
	route("PUT "+one, func(w http.ResponseWriter, r *http.Request) (any, error) {
		def, err := decode[declare.Repository](w, r)
		if err != nil {
			return nil, err
		}
		def.Name = r.PathValue("name")
		replace, err := flag(r, "replace")
		if err != nil {
			return nil, err
		}
		return struct{}{}, g.Add(r.Context(), def, replace)
	})
	route("DELETE "+one, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		down, err := flag(r, "down")
		if err != nil {
			return nil, err
		}
		volumes, err := flag(r, "volumes")
		if err != nil {
			return nil, err
		}
		return struct{}{}, g.Remove(r.Context(), r.PathValue("name"), down, volumes)
	})
	route("POST "+one+"/sync", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.SyncRequest](w, r)
		if err != nil {
			return nil, err
		}
		return g.Sync(r.Context(), r.PathValue("name"), req)
	})
	route("POST "+one+"/suspend", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, g.Suspend(r.Context(), r.PathValue("name"), true)
	})
	route("POST "+one+"/resume", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, g.Suspend(r.Context(), r.PathValue("name"), false)
	})
}
