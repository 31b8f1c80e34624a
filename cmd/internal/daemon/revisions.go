package daemon

import (
	"context"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/spec"
)

func (b *backend) Revisions(ctx context.Context, stack string) ([]api.Revision, error) {
	all, err := b.reconciler.Revisions(stack)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	out := make([]api.Revision, len(all))
	for i, rev := range all {
		out[i] = revision(rev)
	}
	return out, nil
}

func revision(rev reconciler.Revision) api.Revision {
	out := api.Revision{
		Number: rev.Number, Time: rev.Time, By: rev.Cause.By, Command: rev.Cause.Command, Ref: rev.Cause.Ref, Digest: rev.Digest,
		Outcome: string(rev.Outcome), Error: rev.Error, Finished: rev.Finished, Images: map[string]api.RevisionImage{},
	}
	for service, pin := range rev.Images {
		out.Images[service] = api.RevisionImage(pin)
	}
	return out
}

func (b *backend) Revision(ctx context.Context, stack string, number int) (api.RevisionDetail, error) {
	rev, err := b.reconciler.Revision(stack, number)
	if err != nil {
		return api.RevisionDetail{}, b.failure(ctx, err)
	}
	out := api.RevisionDetail{Revision: revision(rev), Stack: rev.Stack}
	all, err := b.reconciler.Revisions(stack)
	if err != nil {
		return out, b.failure(ctx, err)
	}
	for _, older := range all {
		if older.Number >= rev.Number {
			continue
		}
		before, err := b.reconciler.Revision(stack, older.Number)
		if err != nil {
			return out, b.failure(ctx, err)
		}
		out.Before = older.Number
		out.Differences = b.reconciler.Compare(before, rev)
		break
	}
	return out, nil
}

func (b *backend) Rollback(ctx context.Context, stack string, number int) (api.UpRequest, error) {
	desired, opts, err := b.reconciler.Rollback(ctx, stack, number)
	if err != nil {
		return api.UpRequest{}, b.failure(ctx, err)
	}
	return api.UpRequest{Stack: desired, Options: opts.Options, Command: opts.Cause.Command, Ref: opts.Cause.Ref}, nil
}

func (b *backend) Diff(ctx context.Context, stack string, req api.DiffRequest) (api.DiffReply, error) {
	from, err := b.reconciler.Revision(stack, req.From)
	if err != nil {
		return api.DiffReply{}, b.failure(ctx, err)
	}
	to := reconciler.Revision{Stack: req.Stack}
	if req.To > 0 {
		if to, err = b.reconciler.Revision(stack, req.To); err != nil {
			return api.DiffReply{}, b.failure(ctx, err)
		}
	} else if req.Stack == nil {
		return api.DiffReply{}, &api.Error{Code: api.Invalid, Message: "nothing to compare with"}
	} else if to.Images, err = b.reconciler.ImagesOf(ctx, req.Stack); err != nil {
		return api.DiffReply{}, b.failure(ctx, err)
	}
	differences := b.reconciler.Compare(from, to)
	if differences == nil {
		differences = []spec.Difference{}
	}
	return api.DiffReply{From: from.Number, To: to.Number, Differences: differences}, nil
}
