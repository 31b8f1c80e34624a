package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// StackStatus is a stack against what it is to be.
type StackStatus struct {
	Stack string `json:"stack"`
	// OK says that all is as it is to be and nothing is to be done.
	OK bool `json:"ok"`
	// Reconcile is what the loop does: repair, observe (by the stack file), suspended (by a user), or nothing for a stack that
	// nothing was asked of.
	Reconcile string `json:"reconcile"`
	// Error is why the loop can't plan.
	Error     string          `json:"error,omitempty"`
	NextTry   time.Time       `json:"next_try,omitzero"` // of the loop, after an error
	Addresses []AddressStatus `json:"addresses"`
}

// AddressStatus is one replica, network or volume.
type AddressStatus struct {
	Address   string    `json:"address"`
	Name      string    `json:"name"`
	State     string    `json:"state"`     // planner's states; missing, present
	Condition string    `json:"condition"` // ready, starting, unhealthy, restarting, paused, stopped, completed, failed, waiting, missing, drifted, damaged, rollout paused
	Reason    string    `json:"reason,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Drift     string    `json:"drift,omitempty"`
	Next      string    `json:"next,omitempty"` // the action to come
	NextTry   time.Time `json:"next_try,omitzero"`
	Failures  int       `json:"failures,omitempty"` // of that action, in a row
	OK        bool      `json:"ok"`
}

// Values of StackStatus.Reconcile.
const (
	Suspended    = "suspended"
	NothingAsked = "nothing asked"
)

// StackStatus compares a stack with what it is to be, now.
func (r *Reconciler) StackStatus(ctx context.Context, name string) (StackStatus, error) {
	s := r.stack(name)
	out := StackStatus{Stack: name, Reconcile: NothingAsked, Addresses: []AddressStatus{}}
	if _, err := r.intentOf(s); err != nil {
		return out.failed(s, err), nil
	}
	if err := r.engine.Sync(ctx, name); err != nil {
		return out, fmt.Errorf("stack %s: look at its containers: %w", name, err)
	}
	w, err := r.wish(ctx, s)
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case err != nil:
		return out.failed(s, err), nil
	case w == nil:
		out.OK = true
		return out, nil
	}
	in, err := r.intentOf(s)
	if err != nil {
		return out, err
	}
	out.Reconcile = spec.Repair
	switch {
	case in.Suspended:
		out.Reconcile = Suspended
	case w.observe:
		out.Reconcile = spec.Observe
	}
	t := telling{r: r, s: s, w: w, in: in, actions: map[string][]planner.Action{}}
	for _, a := range w.plan.Actions {
		t.actions[a.Address] = append(t.actions[a.Address], a)
	}
	out.Addresses = t.all()
	out.OK = !slices.ContainsFunc(out.Addresses, func(a AddressStatus) bool { return !a.OK })
	return out, nil
}

func (out StackStatus) failed(s *stack, err error) StackStatus {
	out.Error, out.OK = err.Error(), false
	if t := s.loop.troubles.of(lookAt(s)); t != nil {
		out.NextTry = t.Next
	}
	return out
}

// telling is the making of one status.
type telling struct {
	r       *Reconciler
	s       *stack
	w       *wish
	in      *intent
	actions map[string][]planner.Action
}

func (t *telling) all() []AddressStatus {
	var out []AddressStatus
	seen := map[string]bool{}
	for _, c := range t.w.observed.Containers {
		if c.OneOff || t.in.Services[c.Service] == nil && t.in.Down == nil {
			continue
		}
		address := spec.ReplicaAddress(c.Service, c.Replica).String()
		if !seen[address] {
			seen[address] = true
			out = append(out, t.container(address, c))
		}
	}
	for _, a := range t.w.plan.Actions {
		if !seen[a.Address] && a.Kind == planner.CreateContainer {
			seen[a.Address] = true
			out = append(out, t.next(AddressStatus{Address: a.Address, Name: a.Name, State: "missing", Condition: "missing", Reason: because(a)}))
		}
	}
	if t.w.desired != nil {
		out = append(out, t.paused()...)
		out = append(out, t.networks()...)
		out = append(out, t.volumes()...)
	}
	slices.SortFunc(out, func(a, b AddressStatus) int { return cmp.Compare(a.Address, b.Address) })
	return out
}

func (t *telling) networks() (out []AddressStatus) {
	for key, n := range t.w.desired.Networks {
		a := AddressStatus{Address: spec.NetworkAddress(key).String(), Name: n.Name, State: "present", Condition: "ready", OK: true}
		seen := t.w.observed.Networks[n.Name]
		switch {
		case seen == nil && len(t.actions[a.Address]) == 0:
			continue // nobody uses it
		case seen == nil:
			a.State, a.Condition, a.OK = "missing", "missing", false
		case len(seen.Drift) > 0:
			a.Condition, a.Drift, a.OK = "drifted", strings.Join(seen.Drift, ", "), false
		}
		out = append(out, t.next(a))
	}
	return out
}

func (t *telling) volumes() (out []AddressStatus) {
	for key, v := range t.w.desired.Volumes {
		a := AddressStatus{Address: spec.VolumeAddress(key).String(), Name: v.Name, State: "present", Condition: "ready", OK: true}
		seen := t.w.observed.Volumes[v.Name]
		mounted := slices.ContainsFunc(t.w.observed.Containers, func(c planner.Container) bool { return slices.Contains(c.Volumes, v.Name) })
		switch {
		case seen == nil && !mounted && len(t.actions[a.Address]) == 0:
			continue
		case seen == nil && mounted:
			a.State, a.Condition, a.OK, a.Drift = "missing", "damaged", false, "it was removed while containers mount it"
		case seen == nil:
			a.State, a.Condition, a.OK = "missing", "missing", false
		case len(seen.Damage) > 0:
			a.Condition, a.Drift, a.OK = "damaged", strings.Join(seen.Damage, ", "), false
		case len(seen.Drift) > 0:
			a.Condition, a.Drift, a.OK = "drifted", strings.Join(seen.Drift, ", "), false
		}
		out = append(out, t.next(a))
	}
	return out
}

// container tells how a replica is.
func (t *telling) container(address string, c planner.Container) AddressStatus {
	a := AddressStatus{Address: address, Name: c.Name, State: c.State, OK: true}
	v, err := t.r.engine.Get(c.ID)
	if err != nil {
		v = runtime.View{}
	}
	a.Since = v.State.Started
	if !v.Running() && !v.State.Finished.IsZero() {
		a.Since = v.State.Finished
	}
	if a.Since.IsZero() {
		a.Since = c.Created
	}
	_, next, last := t.s.peek(c.ID)
	switch {
	case c.State == planner.Running && c.Health == planner.Unhealthy:
		a.Condition, a.OK = "unhealthy", false
		if last != nil {
			a.Reason = last.String()
		}
	case c.State == planner.Running && c.Health == planner.Starting:
		a.Condition, a.OK = "starting", false
	case c.State == planner.Running:
		a.Condition = "ready"
	case c.State == planner.Paused:
		a.Condition = "paused"
	case c.State == planner.Restarting:
		a.Condition, a.Reason, a.OK = "restarting", ending(v), false
		a.Next, a.NextTry = string(planner.StartContainer)+": "+string(planner.RestartPolicy), next
	case c.State == planner.Created:
		a.Condition = "created"
	case c.Stopped:
		a.Condition, a.Reason = "stopped", "by a user"
	case c.State == planner.Exited && c.ExitCode == 0 && c.Broken == "":
		a.Condition, a.Reason = "completed", ending(v)
	default:
		a.Condition, a.Reason, a.OK = "failed", ending(v), false
	}
	a.Drift = strings.Join(append(slices.Clone(c.Drift), nonEmpty(c.Lost, c.Broken)...), ", ")
	return t.next(a)
}

// ending is how a container ended.
func ending(v runtime.View) string {
	text := fmt.Sprintf("exit code %d", v.State.ExitCode)
	switch {
	case v.State.OOM:
		text += ", out of memory"
	case v.State.Error != "":
		text += ", " + v.State.Error
	}
	return text
}

func nonEmpty(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// next completes a status by what is to be done about it, and when.
func (t *telling) next(a AddressStatus) AddressStatus {
	for _, action := range t.actions[a.Address] {
		if action.Kind == planner.Wait {
			continue
		}
		a.OK = false
		a.Next = string(action.Kind) + ": " + because(action)
		if waits := t.waits(action); len(waits) > 0 {
			a.Condition, a.Reason = "waiting", "for "+strings.Join(waits, ", ")
		}
		if known := t.s.loop.troubles.of(action); known != nil {
			a.Failures = known.Failures
			if known.Next.After(time.Now()) {
				a.NextTry = known.Next
			}
			if known.Err != nil {
				a.Reason = reasonOf(known.Err)
			}
		}
		break
	}
	return a
}

// reasonOf is an action's error without the address, which is told already.
func reasonOf(err error) string {
	var action *ActionError
	if errors.As(err, &action) {
		return action.Err.Error()
	}
	return err.Error()
}

// waits are the conditions that an action comes after.
func (t *telling) waits(a planner.Action) (out []string) {
	for _, id := range a.After {
		if w := t.w.plan.Actions[id]; w.Kind == planner.Wait {
			out = append(out, w.Address+" to be "+cmp.Or(conditionWords[w.Condition], w.Condition))
		}
	}
	return out
}

// Suspend has drift of a stack reported only, until it is called again with false. It outlives the daemon.
func (r *Reconciler) Suspend(name string, suspended bool) error {
	s := r.stack(name)
	unlock, err := s.lock(r.ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	desired, err := r.desiredState(s)
	if err == nil && desired == nil && len(r.engine.List(name)) == 0 {
		return fmt.Errorf("stack %s: %w", name, ErrNoStack)
	}
	if err != nil {
		return err
	}
	if err := r.changeIntent(s, func(in *intent) { in.Suspended = suspended }); err != nil {
		return err
	}
	r.wakeFull(s)
	return nil
}

// ErrNoStack means that there is no such stack.
var ErrNoStack = errors.New("there is no such stack")
