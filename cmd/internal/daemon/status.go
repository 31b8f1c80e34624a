package daemon

import (
	"context"
	"reflect"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/reconciler"
)

func (b *backend) Status(ctx context.Context, stack string) (api.StackStatus, error) {
	s, err := b.reconciler.StackStatus(ctx, stack)
	if err != nil {
		return api.StackStatus{}, b.failure(ctx, err)
	}
	return stackStatus(s), nil
}

func stackStatus(s reconciler.StackStatus) api.StackStatus {
	out := api.StackStatus{
		Stack: s.Stack, OK: s.OK, Reconcile: s.Reconcile, Error: s.Error, NextTry: s.NextTry, Addresses: []api.AddressStatus{},
	}
	for _, a := range s.Addresses {
		out.Addresses = append(out.Addresses, api.AddressStatus(a))
	}
	return out
}

// statusGather is how long changes are gathered before a new status is made of them.
const statusGather = 50 * time.Millisecond

func (b *backend) WatchStatus(ctx context.Context, stack string, send func(api.StackStatus) error) error {
	var last api.StackStatus
	for first := true; ; first = false {
		changed := b.reconciler.Changed(stack)
		now, err := b.Status(ctx, stack)
		if err != nil {
			return err
		}
		if first || !reflect.DeepEqual(last, now) {
			if err := send(now); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-time.After(statusGather):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *backend) Suspend(ctx context.Context, stack string, suspended bool) error {
	if err := b.reconciler.Suspend(stack, suspended); err != nil {
		return b.failure(ctx, err)
	}
	return nil
}
