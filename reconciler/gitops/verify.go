package gitops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/reconciler/gitops/status"
	"github.com/stack-run/stack/reconciler/gitops/trust"
)

// checkSignature tells who signed the revision. Keys are read every time: one that was added counts at once.
func (x *attempt) checkSignature(ctx context.Context) (string, *failure) {
	keys, err := trust.Load(x.def.Verify)
	if err != nil {
		return "", &failure{status.Verified, status.BadSignature, err, false}
	}
	payload, signature, err := x.src.Signed(ctx, x.rev, x.def.Verify.Tag)
	if err != nil {
		return "", fetchFailure(err)
	}
	by, err := keys.Check(payload, signature, time.Now())
	if err == nil && x.def.Verify.Tag && !source.TagIsOf(payload, x.rev) {
		// It may pass: the tag may have been moved between asking and fetching.
		err = fmt.Errorf("tag %s: %w: it is of another tag or commit", x.rev.Ref, trust.ErrSignature)
		return "", &failure{status.Verified, status.BadSignature, err, false}
	}
	if err == nil {
		return by, nil
	}
	what := "commit " + x.rev.Short()
	if x.def.Verify.Tag {
		what = "tag " + x.rev.Ref
	}
	reason := status.BadSignature
	if errors.Is(err, trust.ErrUnsigned) {
		reason = status.NotSigned
	}
	return "", &failure{status.Verified, reason, fmt.Errorf("%s: %w", what, err), true}
}
