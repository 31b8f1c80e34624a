package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/reconciler/gitops"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// openGitOps opens what follows repositories; it starts when all else is open.
func openGitOps(b *backend) (*gitops.Controller, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return gitops.New(gitops.Options{
		Root: filepath.Join(b.options.Root, "gitops"), RunDir: filepath.Join(b.options.RunDir, "gitops"), File: declare.Path(),
		Stacks: gitopsStacks{b}, Artifact: artifacts(b.images), Metrics: b.metrics, Host: host, Version: b.options.Version, Logf: b.options.Logf,
	})
}

// gitopsStacks is what gitops asks of the reconciler.
type gitopsStacks struct{ b *backend }

func (s gitopsStacks) Up(ctx context.Context, desired *spec.Stack, o gitops.UpOptions) (int, error) {
	opts := reconciler.UpOptions{
		Options:     planner.Options{RemoveOrphans: o.RemoveOrphans, WaitHealthy: true},
		Cause:       reconciler.Cause{By: o.Cause.By, Command: o.Cause.Command, Ref: o.Cause.Ref},
		WaitTimeout: o.WaitTimeout,
	}
	changed, err := s.b.reconciler.Up(ctx, desired, opts, nil)
	return changed, s.told(ctx, err)
}

// told gives an error of the reconciler the words that the command would have for it.
func (s gitopsStacks) told(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	failure := s.b.failure(context.WithoutCancel(ctx), err)
	text := failure.Message
	if failure.Address != "" {
		text = failure.Address + ": " + text
	}
	for _, other := range failure.Others {
		text += "; " + other.Address + ": " + other.Message
	}
	if failure.Remedy != "" {
		text += "; " + failure.Remedy
	}
	if n := len(failure.Logs); n > 0 {
		text += fmt.Sprintf(" (its log ends with %q)", failure.Logs[n-1])
	}
	if errors.Is(err, image.ErrUnavailable) || errors.Is(err, image.ErrNoSpace) || errors.Is(err, shim.ErrNoSpace) || errors.Is(err, shim.ErrLost) {
		return fmt.Errorf("%w: %s", gitops.ErrTemporary, text)
	}
	return errors.New(text)
}

func (s gitopsStacks) Down(ctx context.Context, name string, volumes bool) error {
	_, err := s.b.reconciler.Down(ctx, name, nil, planner.DownOptions{Volumes: volumes, RemoveOrphans: true}, nil)
	if err == nil {
		err = s.b.reconciler.Forget(ctx, name)
	}
	return s.told(ctx, err)
}

func (s gitopsStacks) Desired(name string) (*spec.Stack, error) { return s.b.reconciler.Desired(name) }

func (s gitopsStacks) Mounted() (map[string]bool, error) {
	mounted := map[string]bool{}
	for _, v := range s.b.engine.List("") {
		for _, m := range v.Mounts {
			mounted[m.Source] = true
		}
		for _, f := range v.Files {
			mounted[f.File] = true
		}
		for _, file := range v.Spec.SecretEnvironment {
			mounted[file] = true
		}
	}
	names, err := s.b.reconciler.Stacks()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		revisions, err := s.b.reconciler.Revisions(name)
		if err != nil {
			return nil, err
		}
		for _, rev := range revisions {
			full, err := s.b.reconciler.Revision(name, rev.Number)
			if err != nil {
				return nil, err
			}
			for _, file := range gitops.Sources(full.Stack) {
				mounted[file] = true
			}
		}
	}
	return mounted, nil
}

// repositories answers the API.
type repositories struct{ c *gitops.Controller }

func (r repositories) List(context.Context) (api.Repositories, error) {
	list, broken := r.c.List()
	out := api.Repositories{}
	for _, s := range list {
		s.Events, s.History = nil, nil
		for i := range s.Stacks {
			s.Stacks[i].Inputs = nil
		}
		out.Repositories = append(out.Repositories, s)
	}
	if broken != nil {
		out.Broken = broken.Error()
	}
	return out, nil
}

func (r repositories) Get(_ context.Context, name string) (status.Repository, error) {
	s, err := r.c.Get(name)
	return s, gitopsError(err)
}

func (r repositories) Add(_ context.Context, def declare.Repository, replace bool) error {
	return gitopsError(r.c.Add(def, replace))
}

func (r repositories) Remove(ctx context.Context, name string, down, volumes bool) error {
	return gitopsError(r.c.Remove(ctx, name, down, volumes))
}

func (r repositories) Sync(ctx context.Context, name string, req api.SyncRequest) (status.Repository, error) {
	s, err := r.c.Sync(ctx, name, gitops.SyncOptions{By: "sync", Force: true, AllowRewrite: req.AllowRewrite})
	return s, gitopsError(err)
}

func (r repositories) Suspend(_ context.Context, name string, suspended bool) error {
	return gitopsError(r.c.Suspend(name, suspended))
}

func gitopsError(err error) error {
	var problems declare.Problems
	switch {
	case err == nil:
		return nil
	case errors.As(err, &problems):
		return &api.Error{Code: api.Invalid, Message: problems.Error()}
	case errors.Is(err, gitops.ErrNotFound):
		return &api.Error{Code: api.NotFound, Message: err.Error(), Remedy: "see `stack gitops ls`"}
	case errors.Is(err, gitops.ErrExists):
		return &api.Error{Code: api.Conflict, Message: err.Error(), Remedy: "change it with --replace"}
	case errors.Is(err, gitops.ErrSuspended):
		return &api.Error{Code: api.Conflict, Message: err.Error(), Remedy: "`stack gitops resume` goes on with it"}
	case errors.Is(err, gitops.ErrDeclared):
		return &api.Error{Code: api.Conflict, Message: err.Error()}
	}
	return err
}
