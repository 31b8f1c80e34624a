package reconciler

import (
	"context"
	"fmt"
	"reflect"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// update brings a container up to its service without a new one.
//
// The record's spec says what the container has; Record.Updating that it may have something else, since an update was
// begun. It is written first and cleared with the new spec, so that whatever happens in between the next plan finds the
// difference, or the mark, and does all of it again: each step may be repeated.
func (x *execution) update(ctx context.Context, a planner.Action) error {
	svc := x.service(a.Service)
	if svc == nil {
		return fmt.Errorf("service %s is not in the stack file", a.Service)
	}
	v, err := x.r.engine.Get(a.ContainerID)
	if err != nil {
		return err
	}
	img, err := x.r.engine.Image(ctx, v.ImageID)
	if err != nil {
		return err
	}
	s := x.r.stack(x.stack)
	k := s.keeper(v.ID)
	k.life.Lock()
	defer k.life.Unlock()
	if v, err = x.r.engine.Get(v.ID); err != nil {
		return err
	}
	u := updating{r: x.r, stack: x.desired, old: v, service: svc, labels: labels(creation{stack: x.desired, service: svc, replica: v.Replica}, img)}
	u.warn = func(text string) { x.emit(Event{Kind: "warning", Action: a, Address: a.Address, Text: text}) }
	switch {
	case v.Running():
		err = u.live(ctx)
	case u.relinks():
		if u.endpoints, _, err = u.places(ctx); err != nil {
			err = u.refusedNetwork(ctx, err)
		}
	}
	if err != nil {
		return err
	}
	checked := !reflect.DeepEqual(v.Spec.Healthcheck, svc.Healthcheck)
	if checked {
		k.stopProbes() // by the old settings
	}
	err = x.r.engine.Update(v.ID, func(rec *runtime.Record) {
		rec.Spec, rec.Labels, rec.Updating = *svc, u.labels, false
		if u.endpoints != nil {
			rec.Endpoints = u.endpoints
		}
		if checked {
			rec.Health = planner.NoHealth
		}
	})
	if err != nil {
		return err
	}
	if v, err = x.r.engine.Get(v.ID); err != nil {
		return err
	}
	if v.Running() {
		x.r.monitor(s, v)
	}
	return x.r.networks.Vacate(ctx, v.ID, v.Endpoints)
}

// updating is one update in place. The caller holds the keeper's life.
type updating struct {
	r         *Reconciler
	stack     *spec.Stack
	old       runtime.View
	service   *spec.Service
	labels    map[string]string
	endpoints []netdriver.Endpoint // nil where they stay as they are
	changed   bool                 // something is as the service has it, and not as the record
	warn      func(string)
}

// live changes what the kernel and the shim have of a running container. When its limits are refused everything is as
// it was.
func (u *updating) live(ctx context.Context) error {
	again := u.old.Updating
	limits := again || !reflect.DeepEqual(u.old.Spec.Resources, u.service.Resources)
	log := again || !reflect.DeepEqual(u.old.Spec.Logging, u.service.Logging) ||
		u.service.Logging != nil && !reflect.DeepEqual(u.old.Labels, u.labels) // they may be part of each line
	links := u.relinks()
	if !limits && !log && !links {
		return nil
	}
	if err := u.mark(true); err != nil {
		return err
	}
	if limits {
		warnings, err := u.r.engine.SetLimits(ctx, u.old.ID, u.service)
		if err != nil {
			return u.refused(err)
		}
		for _, text := range warnings {
			u.warn(text)
		}
		u.changed = true
	}
	if links {
		if err := u.relink(ctx); err != nil {
			return err
		}
	}
	if log {
		return u.r.engine.SetLog(ctx, u.old.ID, u.service, u.labels)
	}
	return nil
}

// refused takes the mark back, since what was is in force again; not where it was unclear before, or something is not.
func (u *updating) refused(err error) error {
	if !u.old.Updating && !u.changed {
		if markErr := u.mark(false); markErr != nil {
			u.r.logf("%s: %v", u.old.Name, markErr)
		}
	}
	return err
}

func (u *updating) mark(begun bool) error {
	return u.r.engine.Update(u.old.ID, func(rec *runtime.Record) { rec.Updating = begun })
}
