package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/stack-run/stack/cmd/internal/api"
)

// JobBackend is the part of a Backend that runs jobs.
type JobBackend interface {
	Jobs(ctx context.Context, stack string) ([]api.Job, error)
	// RunJob begins a run and returns its number.
	RunJob(ctx context.Context, stack, job string) (int, error)
	// WaitJobRun returns when the run is over, or an attempt after the given one has begun.
	WaitJobRun(ctx context.Context, stack, job string, number, after int) (api.JobRun, error)
}

func (s *Server) routeJobs(route func(string, handler)) {
	b := s.backend
	const jobs = "/v1/stacks/{stack}/jobs"
	route("GET "+jobs, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Jobs(r.Context(), r.PathValue("stack"))
	})
	route("POST "+jobs+"/{job}/runs", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.RunJob(r.Context(), r.PathValue("stack"), r.PathValue("job"))
	})
	route("POST "+jobs+"/{job}/runs/{number}/wait", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		number, err := count(r.PathValue("number"))
		if err != nil {
			return nil, err
		}
		after, err := count(r.URL.Query().Get("after"))
		if err != nil {
			return nil, err
		}
		return b.WaitJobRun(r.Context(), r.PathValue("stack"), r.PathValue("job"), number, after)
	})
}

func count(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not a number of runs or attempts"}
	}
	return n, nil
}
