package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Ops are the operations of POST /v1/stacks/{stack}/ops/{op}.
var Ops = []string{"down", "stop", "start", "restart", "kill", "rm", "pause", "unpause"}

// A handler answers one request: with a value, or by itself when the value is nil.
type handler func(w http.ResponseWriter, r *http.Request) (any, error)

func (s *Server) routes(o Options) http.Handler {
	mux := http.NewServeMux()
	b := s.backend
	route := func(pattern string, h handler) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var value any
			err := s.guard(r.URL.Path, func() (err error) {
				value, err = h(w, r)
				return err
			})
			switch {
			case err != nil:
				writeError(w, err)
			case value != nil:
				writeJSON(w, value)
			}
		})
	}

	route("GET /v1/version", func(_ http.ResponseWriter, r *http.Request) (any, error) { return b.Info(r.Context()), nil })
	route("POST /v1/shutdown", func(w http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, b.Shutdown(r.Context())
	})

	route("GET /v1/stacks", func(_ http.ResponseWriter, r *http.Request) (any, error) { return b.Stacks(r.Context()) })
	route("GET /v1/stacks/{stack}/containers", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Containers(r.Context(), r.PathValue("stack"))
	})
	route("GET /v1/stacks/{stack}/health", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Health(r.Context(), r.PathValue("stack"), r.URL.Query()["service"])
	})
	route("GET /v1/stacks/{stack}/watch", func(w http.ResponseWriter, r *http.Request) (any, error) {
		items(s, w, r, func(ctx context.Context, send func(api.Container) error) error {
			return b.Watch(ctx, r.PathValue("stack"), func(c api.Container) { send(c) }) // a failed send ends ctx
		})
		return nil, nil
	})
	route("POST /v1/stacks/{stack}/logs", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.LogRequest](w, r)
		if err != nil {
			return nil, err
		}
		items(s, w, r, func(ctx context.Context, send func(api.LogEntry) error) error {
			return b.Logs(ctx, r.PathValue("stack"), req, send)
		})
		return nil, nil
	})

	s.routeOperations(route)
	s.routeRevisions(route)
	s.routeJobs(route)
	s.routeStatus(route)
	s.routeContainers(route)
	s.routePlace(route)
	s.routeImages(route)
	s.routeVolumesAndNetworks(route)
	if o.GitOps != nil {
		s.routeGitOps(route, o.GitOps)
	}
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	return mux
}

func (s *Server) routeOperations(route func(string, handler)) {
	b := s.backend
	route("POST /v1/plan", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decodeUp(w, r)
		if err != nil {
			return nil, err
		}
		return b.Plan(r.Context(), req)
	})
	route("POST /v1/up", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decodeUp(w, r)
		if err != nil {
			return nil, err
		}
		s.events(w, r, func(ctx context.Context, send func(api.Event)) (api.Result, error) { return b.Up(ctx, req, send) })
		return nil, nil
	})
	route("POST /v1/pull", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.PullRequest](w, r)
		if err == nil && req.Stack == nil {
			err = missing("stack")
		}
		if err != nil {
			return nil, err
		}
		s.events(w, r, func(ctx context.Context, send func(api.Event)) (api.Result, error) { return b.Pull(ctx, req, send) })
		return nil, nil
	})
	route("POST /v1/run", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.RunRequest](w, r)
		if err == nil && req.Stack == nil {
			err = missing("stack")
		}
		if err != nil {
			return nil, err
		}
		s.events(w, r, func(ctx context.Context, send func(api.Event)) (api.Result, error) { return b.Run(ctx, req, send) })
		return nil, nil
	})
	route("POST /v1/stacks/{stack}/ops/{op}", func(w http.ResponseWriter, r *http.Request) (any, error) {
		op, req, err := decodeOp(w, r)
		if err != nil {
			return nil, err
		}
		s.events(w, r, func(ctx context.Context, send func(api.Event)) (api.Result, error) {
			return b.Op(ctx, op, r.PathValue("stack"), req, send)
		})
		return nil, nil
	})
	route("POST /v1/stacks/{stack}/ops/{op}/plan", func(w http.ResponseWriter, r *http.Request) (any, error) {
		op, req, err := decodeOp(w, r)
		if err != nil {
			return nil, err
		}
		return b.PlanOp(r.Context(), op, r.PathValue("stack"), req)
	})
}

func (s *Server) routeContainers(route func(string, handler)) {
	b := s.backend
	route("POST /v1/stacks/{stack}/exec", func(w http.ResponseWriter, r *http.Request) (any, error) {
		req, err := decode[api.ExecRequest](w, r)
		if err != nil {
			return nil, err
		}
		if req.Detach {
			session, err := b.Exec(r.Context(), r.PathValue("stack"), req)
			if err == nil && session != nil {
				err = session.Close()
			}
			return struct{}{}, err
		}
		return nil, s.session(w, r, func(ctx context.Context) (Session, error) {
			return b.Exec(ctx, r.PathValue("stack"), req)
		})
	})
	const container = "/v1/stacks/{stack}/containers/{container}"
	route("POST "+container+"/attach", func(w http.ResponseWriter, r *http.Request) (any, error) {
		input, err := flag(r, "input")
		if err != nil {
			return nil, err
		}
		return nil, s.session(w, r, func(ctx context.Context) (Session, error) {
			return b.Attach(ctx, r.PathValue("stack"), r.PathValue("container"), input)
		})
	})
	route("POST "+container+"/wait", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		code, err := b.WaitContainer(r.Context(), r.PathValue("stack"), r.PathValue("container"))
		return api.SessionExit{Code: code}, err
	})
	route("POST "+container+"/signal", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		signal := r.URL.Query().Get("signal")
		if signal == "" {
			return nil, missing("signal")
		}
		return struct{}{}, b.Signal(r.Context(), r.PathValue("stack"), r.PathValue("container"), signal)
	})
	route("DELETE "+container, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		force, err := flag(r, "force")
		if err != nil {
			return nil, err
		}
		volumes, err := flag(r, "volumes")
		if err != nil {
			return nil, err
		}
		return struct{}{}, b.RemoveContainer(r.Context(), r.PathValue("stack"), r.PathValue("container"), force, volumes)
	})
}

func (s *Server) routeImages(route func(string, handler)) {
	b := s.backend
	route("GET /v1/images", func(_ http.ResponseWriter, r *http.Request) (any, error) { return b.Images(r.Context()) })
	route("GET /v1/images/inspect", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Image(r.Context(), r.URL.Query().Get("ref"))
	})
	route("POST /v1/images/pull", func(w http.ResponseWriter, r *http.Request) (any, error) {
		q := r.URL.Query()
		s.events(w, r, func(ctx context.Context, send func(api.Event)) (api.Result, error) {
			return b.PullImage(ctx, q.Get("ref"), q.Get("platform"), send)
		})
		return nil, nil
	})
	route("POST /v1/images/load", func(w http.ResponseWriter, r *http.Request) (any, error) {
		// The archive is read while events are written, which HTTP/1 has to be told.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			return nil, err
		}
		s.events(w, r, func(ctx context.Context, send func(api.Event)) (api.Result, error) {
			names, err := b.LoadImage(ctx, io.Reader(r.Body), r.URL.Query().Get("name"), send)
			for _, name := range names {
				send(api.Event{Kind: "note", Name: name, Text: "Loaded image: " + name})
			}
			return api.Result{Changed: len(names)}, err
		})
		return nil, nil
	})
	route("DELETE /v1/images", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		force, err := flag(r, "force")
		if err != nil {
			return nil, err
		}
		return b.RemoveImage(r.Context(), r.URL.Query().Get("ref"), force)
	})
}

func (s *Server) routeVolumesAndNetworks(route func(string, handler)) {
	b := s.backend
	route("GET /v1/volumes", func(_ http.ResponseWriter, r *http.Request) (any, error) { return b.Volumes(r.Context()) })
	route("POST /v1/volumes/prune", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		all, err := flag(r, "all")
		if err != nil {
			return nil, err
		}
		return b.PruneVolumes(r.Context(), all)
	})
	route("DELETE /v1/volumes/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, b.RemoveVolume(r.Context(), r.PathValue("name"))
	})
	route("GET /v1/networks", func(_ http.ResponseWriter, r *http.Request) (any, error) { return b.Networks(r.Context()) })
	route("POST /v1/networks/prune", func(_ http.ResponseWriter, r *http.Request) (any, error) { return b.PruneNetworks(r.Context()) })
	route("DELETE /v1/networks/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return struct{}{}, b.RemoveNetwork(r.Context(), r.PathValue("name"))
	})
}

func decodeUp(w http.ResponseWriter, r *http.Request) (api.UpRequest, error) {
	req, err := decode[api.UpRequest](w, r)
	if err == nil && req.Stack == nil {
		err = missing("stack")
	}
	return req, err
}

func decodeOp(w http.ResponseWriter, r *http.Request) (string, api.OpRequest, error) {
	op := r.PathValue("op")
	if !slices.Contains(Ops, op) {
		return "", api.OpRequest{}, &api.Error{Code: api.NotFound, Message: fmt.Sprintf("no operation is called %q", op)}
	}
	req, err := decode[api.OpRequest](w, r)
	return op, req, err
}

func missing(field string) error {
	return &api.Error{Code: api.Invalid, Message: fmt.Sprintf("malformed request: %q is missing", field)}
}
