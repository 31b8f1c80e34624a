package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/stack-run/stack/cmd/internal/api"
)

// RevisionBackend is the part of a Backend that knows what was applied.
type RevisionBackend interface {
	Revisions(ctx context.Context, stack string) ([]api.Revision, error)
	Revision(ctx context.Context, stack string, number int) (api.RevisionDetail, error)
	// Rollback is what Up has to be asked for to go back to a revision; 0 is the last one that converged.
	Rollback(ctx context.Context, stack string, number int) (api.UpRequest, error)
	Diff(ctx context.Context, stack string, req api.DiffRequest) (api.DiffReply, error)
}

func (s *Server) routeRevisions(route func(string, handler)) {
	b := s.backend
	const revisions = "/v1/stacks/{stack}/revisions"
	route("GET "+revisions, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Revisions(r.Context(), r.PathValue("stack"))
	})
	route("GET "+revisions+"/{number}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		n, err := revisionNumber(r)
		if err != nil {
			return nil, err
		}
		return b.Revision(r.Context(), r.PathValue("stack"), n)
	})
	route("GET "+revisions+"/{number}/rollback", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		n, err := revisionNumber(r)
		if err != nil {
			return nil, err
		}
		return b.Rollback(r.Context(), r.PathValue("stack"), n)
	})
	route("POST /v1/stacks/{stack}/diff", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.DiffRequest](w, r)
		if err != nil {
			return nil, err
		}
		return b.Diff(r.Context(), r.PathValue("stack"), req)
	})
}

func revisionNumber(r *http.Request) (int, error) {
	text := r.PathValue("number")
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not the number of a revision"}
	}
	return n, nil
}
