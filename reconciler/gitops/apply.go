package gitops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
	"github.com/stack-run/stack/spec"
)

var errRollback = errors.New("rolling back failed")

// applyStack converges one stack, and when that fails goes back to what it was, if so told.
func (x *attempt) applyStack(ctx context.Context, p *prepared) {
	name := p.desired.Name
	now := status.Stack{Name: name, Path: p.path, Revision: x.rev.ID, Digest: p.digest, Inputs: p.inputs, Settings: x.settings(), Time: time.Now().UTC()}
	if old := x.stackState(name); old != nil && old.Outcome == status.StackApplied && old.Digest == p.digest && !x.force && x.wanted(name) {
		kept := *old
		kept.Path, kept.Inputs, kept.Settings = p.path, p.inputs, now.Settings
		x.setStack(kept)
		return
	}
	now.Outcome = status.StackApplying
	x.setStack(now)
	changed, err := x.up(ctx, p.desired)
	if ctx.Err() != nil {
		return // the daemon ends: the next one finds it applying
	}
	now.Changed, now.Time = changed, time.Now().UTC()
	if err == nil {
		err = writeSynced(appliedFile(x.dir, name), p.desired)
	}
	if err == nil {
		now.Outcome = status.StackApplied
		x.setStack(now)
		x.results.Lock()
		defer x.results.Unlock()
		if changed > 0 {
			x.changed = append(x.changed, name)
			x.tell("stack", "Applied", fmt.Sprintf("the stack %s took %d actions", name, changed))
		}
		return
	}
	now.Outcome, now.Error = status.StackFailed, x.redact(err.Error())
	if x.def.OnFailure == declare.Rollback && !errors.Is(err, ErrTemporary) {
		if back := x.rollback(ctx, name); back != nil {
			err = fmt.Errorf("%w; %w: %w", err, errRollback, back)
		} else {
			now.Outcome = status.StackRolledBack
		}
	}
	x.setStack(now)
	x.results.Lock()
	defer x.results.Unlock()
	x.changed = append(x.changed, name)
	x.failed = append(x.failed, fmt.Errorf("stack %s: %w", name, err))
	x.tell("stack", "Failed", fmt.Sprintf("the stack %s: %s", name, x.redact(err.Error())))
}

func (x *attempt) up(ctx context.Context, desired *spec.Stack) (int, error) {
	return x.c.opts.Stacks.Up(ctx, desired, UpOptions{
		Cause:         Cause{By: x.rev.Author, Command: "gitops", Ref: x.name + "@" + x.rev.ID},
		RemoveOrphans: x.def.Prunes(),
		WaitTimeout:   time.Duration(x.def.WaitTimeout),
	})
}

// rollback makes a stack what it was when it last converged; where it never did, it stays as it is.
func (x *attempt) rollback(ctx context.Context, name string) error {
	last, err := loadApplied(x.dir, name)
	if err != nil {
		return err
	}
	if last == nil {
		return errors.New("there is no revision that converged")
	}
	_, err = x.up(ctx, last)
	return err
}

func (x *attempt) stackState(name string) *status.Stack {
	s := x.snapshot()
	return s.Stack(name)
}

func (x *attempt) setStack(st status.Stack) {
	x.update(func(s *status.Repository) {
		if old := s.Stack(st.Name); old != nil {
			*old = st
			return
		}
		s.Stacks = append(s.Stacks, st)
		slices.SortFunc(s.Stacks, func(a, b status.Stack) int { return compare(a.Name, b.Name) })
	})
}

// forget drops a stack that is not this repository's any more.
func (x *attempt) forget(name string) {
	x.update(func(s *status.Repository) {
		s.Stacks = slices.DeleteFunc(s.Stacks, func(st status.Stack) bool { return st.Name == name })
	})
	os.Remove(appliedFile(x.dir, name)) // what stays is never read: the stack is not in the inventory
}
