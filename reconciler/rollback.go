package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
)

// Rollback is what Up has to be asked for to go back to a revision: its desired state, with the images that it had.
// Revision 0 is the last one that converged and differs from what the stack is to be now. Errors wrap ErrNoRevision.
func (r *Reconciler) Rollback(ctx context.Context, stack string, n int) (*spec.Stack, UpOptions, error) {
	if n == 0 {
		var err error
		if n, err = r.lastGood(stack); err != nil {
			return nil, UpOptions{}, err
		}
	}
	rev, err := r.Revision(stack, n)
	if err != nil {
		return nil, UpOptions{}, err
	}
	if err := r.hasContents(rev); err != nil {
		return nil, UpOptions{}, err
	}
	desired, err := r.pinned(ctx, rev)
	if err != nil {
		return nil, UpOptions{}, err
	}
	return desired, UpOptions{
		Cause: Cause{Command: "rollback", Ref: fmt.Sprintf("revision %d", n)},
		// What came with a later revision goes. An image is pulled where it is missing only: under its name there may be a
		// newer one.
		Options: planner.Options{RemoveOrphans: true, Pull: "missing", RollBack: slices.Sorted(maps.Keys(desired.Services))},
	}, nil
}

// lastGood is the number of the newest revision that converged and differs from what the stack is to be.
func (r *Reconciler) lastGood(stack string) (int, error) {
	all, err := r.Revisions(stack)
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("stack %s: %w: nothing was applied yet", stack, ErrNoRevision)
	}
	for _, rev := range all[1:] {
		if moved, _ := comparePins(rev.Images, all[0].Images); rev.Outcome == Converged && (rev.Digest != all[0].Digest || moved) {
			return rev.Number, nil
		}
	}
	return 0, fmt.Errorf("stack %s: %w: none before revision %d converged and differs from it", stack, ErrNoRevision, all[0].Number)
}

// hasContents refuses a revision whose configs and secrets can't be put back.
func (r *Reconciler) hasContents(rev Revision) error {
	var errs []error
	for _, declared := range []map[string]*spec.File{rev.Stack.Secrets, rev.Stack.Configs} {
		for _, key := range slices.Sorted(maps.Keys(declared)) {
			f := declared[key]
			if f.Sealed {
				if _, err := os.Stat(f.File); err != nil {
					errs = append(errs, fmt.Errorf("stack %s: revision %d: what %s held was kept in memory only, and is gone", rev.Stack.Name, rev.Number, key))
				}
				continue
			}
			if f.File == "" || f.Digest == "" || r.isKept(rev.Stack.Name, f.Digest) {
				continue
			}
			if content, err := os.ReadFile(f.File); err != nil || contentDigest(content) != f.Digest {
				errs = append(errs, fmt.Errorf("stack %s: revision %d: what %s held is not kept, and %s holds something else now; put that back, or change the stack file and run `stack up`", rev.Stack.Name, rev.Number, key, f.File))
			}
		}
	}
	return joined(errs)
}

// pinned is a revision's desired state with its images by digest, where their names stand for others by now.
func (r *Reconciler) pinned(ctx context.Context, rev Revision) (*spec.Stack, error) {
	stack := *rev.Stack
	stack.Services = maps.Clone(stack.Services)
	for name, pin := range rev.Images {
		svc := stack.Services[name]
		if svc == nil {
			continue
		}
		ref, err := r.pin(ctx, pin, svc.Platform)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		if ref != svc.Image {
			changed := *svc
			changed.Image = ref
			stack.Services[name] = &changed
		}
	}
	return &stack, nil
}

// pin is a reference under which an image is, or can be pulled: its name where that still stands for it, then with the
// digest that a registry has it under, then its id.
func (r *Reconciler) pin(ctx context.Context, p PinImage, platform string) (string, error) {
	byDigest, err := image.WithDigest(p.Image, p.Digest)
	if err != nil {
		return "", err
	}
	for _, ref := range []string{p.Image, byDigest, p.ID} {
		if ref == "" {
			continue
		}
		img, err := r.images.Get(ctx, ref, platform)
		if err == nil && img.ID == p.ID {
			return ref, nil
		}
		if err != nil && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrPlatform) {
			return "", err
		}
	}
	if byDigest == "" {
		return "", fmt.Errorf("image %s (%.19s): %w, and no registry is known to have it", p.Image, p.ID, image.ErrNotFound)
	}
	return byDigest, nil // pulled
}
