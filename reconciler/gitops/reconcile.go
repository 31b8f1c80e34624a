package gitops

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// ErrTemporary is wrapped by errors of Stacks that may go away by themselves: the revision is tried again.
var ErrTemporary = errors.New("temporary")

// failure is the end of an attempt: the condition that it is about, and why.
type failure struct {
	condition string
	reason    string
	err       error
	// lasting says that the same revision would fail again: it waits for another one, or for a sync.
	lasting bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// attempt is one reconciliation of a repository.
type attempt struct {
	*repository
	by           string
	force        bool // a sync: everything is looked at again
	allowRewrite bool
	def          declare.Repository
	skip         []string
	began        time.Time
	rev          source.Revision
	secret       []string // decrypted values, which no message may show

	results sync.Mutex // guards what the stacks of a revision write side by side
	changed []string
	failed  []error
}

// reconcile makes the repository's stacks what its reference says. Every exit leaves conditions with reason and message.
func (x *attempt) reconcile(ctx context.Context) *failure {
	if f := x.awaitDependencies(); f != nil {
		return f
	}
	isNew, f := x.fetch(ctx)
	if f != nil || !isNew {
		return f
	}
	if f := x.verify(ctx); f != nil {
		return f
	}
	tree, f := x.checkOut(ctx)
	if f != nil {
		return f
	}
	all, stacks, f := x.load(ctx, tree)
	if f != nil {
		x.tidy(ctx, false) // the broken revision before it
		return f
	}
	if err := x.store.Use(tree); err != nil {
		return &failure{status.Applied, status.Internal, err, false}
	}
	f = x.apply(ctx, stacks)
	if f == nil {
		f = x.prune(ctx, all)
	}
	if f == nil {
		x.set(status.Applied, status.True, status.Succeeded, x.summary(len(all)))
		x.update(func(s *status.Repository) { s.Applied = x.rev })
	}
	x.tidy(ctx, f == nil)
	return f
}

// awaitDependencies leaves the repository alone until those that it depends on are converged.
func (x *attempt) awaitDependencies() *failure {
	for _, name := range x.def.DependsOn {
		if !x.c.ready(name) {
			return &failure{status.Ready, status.DependencyNotReady, fmt.Errorf("waiting for the repository %s to be ready", name), false}
		}
	}
	return nil
}

// fetch finds out what the reference points to, and fetches it unless there is nothing to do about it.
func (x *attempt) fetch(ctx context.Context) (isNew bool, f *failure) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(x.def.Timeout))
	defer cancel()
	rev, err := x.src.Resolve(ctx)
	if err != nil {
		return false, fetchFailure(err)
	}
	if !x.force && x.settled(rev) {
		x.set(status.Fetched, status.True, status.Succeeded, "at "+x.state.Attempted.Short())
		return false, nil
	}
	if rev, err = x.src.Fetch(ctx, rev); err != nil {
		return false, fetchFailure(err)
	}
	x.rev = rev
	x.set(status.Fetched, status.True, status.Succeeded, "at "+rev.Short())
	x.update(func(s *status.Repository) { s.Attempted = rev })
	return true, nil
}

// settled tells whether a revision is what was attempted last with the same settings, and came to its end: applied and
// still wanted, or failed for good.
func (x *attempt) settled(rev source.Revision) bool {
	s := x.snapshot()
	if s.Settings != x.settings() || s.Attempted.ID != rev.ID {
		return false
	}
	if s.Verdict == rev.ID {
		return true
	}
	if s.Applied.ID != rev.ID {
		return false
	}
	for _, st := range s.Stacks {
		desired, err := x.c.opts.Stacks.Desired(st.Name)
		if err != nil || desired == nil || st.Outcome != status.StackApplied {
			return false // somebody took it down
		}
	}
	return true
}

func fetchFailure(err error) *failure {
	f := &failure{status.Fetched, status.FetchFailed, err, false}
	switch {
	case errors.Is(err, source.ErrNotFound):
		f.reason = status.NotFound
	case errors.Is(err, source.ErrTooLarge):
		f.reason = status.TooLarge
	case errors.Is(err, source.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		f.reason = status.NoSpace
	case errors.Is(err, source.ErrUnsafe):
		f.reason, f.lasting = status.Unsafe, true
	}
	return f
}

// verify refuses a revision that is not signed as asked, and one that takes back what was applied.
func (x *attempt) verify(ctx context.Context) *failure {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(x.def.Timeout))
	defer cancel()
	message := "no signature is asked for"
	if x.def.Verify.Required() {
		by, f := x.checkSignature(ctx)
		if f != nil {
			return f
		}
		message = "signed by " + by
	}
	old := x.snapshot()
	if old.Applied.ID != "" && old.Applied.ID != x.rev.ID && old.Followed == x.followed() && !x.def.AllowRewrite {
		if f := x.checkDescent(ctx, old.Applied); f != nil {
			return f
		}
	}
	x.set(status.Verified, status.True, status.Succeeded, message)
	return nil
}

// checkDescent refuses a branch that lost what was applied, and a tag that was moved.
func (x *attempt) checkDescent(ctx context.Context, applied source.Revision) *failure {
	const remedy = "; if that is meant, allow it once with `stack gitops sync --allow-rewrite`, or always with allowRewrite"
	if x.allowRewrite {
		return nil
	}
	switch {
	case strings.HasPrefix(x.rev.Ref, "refs/tags/"):
		if x.rev.Ref == applied.Ref {
			return &failure{status.Verified, status.Rewritten, fmt.Errorf("the tag %s was moved from %s to %s%s",
				strings.TrimPrefix(x.rev.Ref, "refs/tags/"), applied.Short(), x.rev.Short(), remedy), true}
		}
	case x.rev.Ref != "":
		descends, err := x.src.Descends(ctx, x.rev, applied.ID)
		if err != nil {
			return fetchFailure(err)
		}
		if !descends {
			return &failure{status.Verified, status.Rewritten, fmt.Errorf("%s does not come after %s, which is applied: the branch was force-pushed or moved backwards%s",
				x.rev.Short(), applied.Short(), remedy), true}
		}
	}
	return nil
}

// checkOut writes the revision's files.
func (x *attempt) checkOut(ctx context.Context) (*checkout.Tree, *failure) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(x.def.Timeout))
	defer cancel()
	var previous *checkout.Tree
	if id := x.snapshot().Applied.ID; id != "" {
		previous, _ = x.store.Open(id) // without it everything is read
	}
	tree, err := x.store.Write(ctx, x.src, x.rev, previous)
	if err != nil {
		return nil, fetchFailure(err)
	}
	return tree, nil
}

// load finds the revision's stacks and makes desired states of those that are not as they were. All that is wrong with any
// of them is told at once, and nothing is touched.
func (x *attempt) load(ctx context.Context, tree *checkout.Tree) (all []string, stacks []*prepared, f *failure) {
	list, err := discover(tree, x.def, x.skip)
	if err != nil {
		return nil, nil, &failure{status.Applied, status.NotFound, err, true}
	}
	old := x.snapshot()
	settings := x.settings()
	names := map[string]string{}
	var wrong []error
	reason := status.InvalidStack
	for _, found := range list {
		if st := atPath(old.Stacks, found.path); !x.force && st != nil && st.Outcome == status.StackApplied && st.Settings == settings && unchanged(st.Inputs, tree) && x.wanted(st.Name) {
			all, names[st.Name] = append(all, st.Name), found.path
			continue
		}
		p, err := x.prepare(ctx, tree, found)
		if ctx.Err() != nil {
			return nil, nil, &failure{status.Applied, status.Internal, ctx.Err(), false}
		}
		if err == nil {
			name := p.desired.Name
			if other, taken := names[name]; taken {
				err = fmt.Errorf("%s: the stack %s is in %s too; give one of them another `name:`", found.path, name, other)
			} else if other := x.c.owner(name, x.name); other != "" {
				err, reason = fmt.Errorf("%s: the stack %s comes from the repository %s already", found.path, name, other), status.NameTaken
			}
			names[name] = found.path
		}
		if err != nil {
			if errors.Is(err, errDecrypt) {
				reason = status.DecryptFailed
			} else if errors.Is(err, source.ErrUnsafe) {
				reason = status.Unsafe
			}
			wrong = append(wrong, err)
			continue
		}
		all, stacks = append(all, p.desired.Name), append(stacks, p)
	}
	if len(wrong) > 0 {
		return nil, nil, &failure{status.Applied, reason, errors.Join(wrong...), true}
	}
	return all, stacks, nil
}

func atPath(stacks []status.Stack, path string) *status.Stack {
	i := slices.IndexFunc(stacks, func(s status.Stack) bool { return s.Path == path })
	if i < 0 {
		return nil
	}
	return &stacks[i]
}

// wanted tells whether the reconciler has a stack, or somebody took it down.
func (x *attempt) wanted(stack string) bool {
	desired, err := x.c.opts.Stacks.Desired(stack)
	return err == nil && desired != nil
}

// apply converges the stacks, some at a time; one that fails does not keep the others.
func (x *attempt) apply(ctx context.Context, stacks []*prepared) *failure {
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU() + 1)
	for _, p := range stacks {
		group.Go(func() error {
			x.applyStack(ctx, p)
			return nil
		})
	}
	group.Wait() // no error: they are in x.failed
	if ctx.Err() != nil {
		return &failure{status.Applied, status.Internal, ctx.Err(), false}
	}
	if len(x.failed) == 0 {
		return nil
	}
	err := errors.Join(x.failed...)
	f := &failure{status.Applied, status.ApplyFailed, err, !errors.Is(err, ErrTemporary)}
	switch {
	case errors.Is(err, errRollback):
		f.reason = status.RollbackFailed
	case x.def.OnFailure == declare.Rollback && f.lasting:
		f.reason = status.RolledBack
	}
	return f
}

// prune takes down the stacks that left the repository. What can't be taken down stays in the inventory, for the next time.
func (x *attempt) prune(ctx context.Context, all []string) *failure {
	var errs []error
	for _, st := range x.snapshot().Stacks {
		if slices.Contains(all, st.Name) {
			continue
		}
		if x.def.Prunes() {
			if err := x.c.opts.Stacks.Down(ctx, st.Name, x.def.PruneVolumes); err != nil {
				errs = append(errs, fmt.Errorf("stack %s: %w", st.Name, err))
				continue
			}
			x.tell("stack", "Pruned", "the stack "+st.Name+" left the repository and was taken down")
		}
		x.forget(st.Name)
		x.changed = append(x.changed, st.Name)
	}
	if len(errs) > 0 {
		return &failure{status.Applied, status.PruneFailed, errors.Join(errs...), false}
	}
	return nil
}

func (x *attempt) summary(stacks int) string {
	if stacks == 1 {
		return "revision " + x.rev.Short() + " is applied"
	}
	return fmt.Sprintf("revision %s is applied: %d stacks, %d changed", x.rev.Short(), stacks, len(x.changed))
}

// tidy gives back what is not needed any more. Failing at it is no failure of the revision.
func (x *attempt) tidy(ctx context.Context, applied bool) {
	if applied {
		if err := x.src.Clean(ctx, x.rev); err != nil && ctx.Err() == nil {
			x.c.opts.Logf("gitops %s: %v", x.name, err)
		}
	}
	mounted, err := x.c.opts.Stacks.Mounted()
	if err == nil {
		s := x.snapshot()
		for _, st := range s.Stacks {
			if desired, err := loadApplied(x.dir, st.Name); err == nil && desired != nil {
				for _, file := range Sources(desired) {
					mounted[file] = true
				}
			}
		}
		err = errors.Join(x.store.Prune([]string{s.Applied.ID, s.Attempted.ID}, mounted), x.sweepSecrets(mounted))
	}
	if err != nil {
		x.c.opts.Logf("gitops %s: %v", x.name, err)
	}
}
