package reconciler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/spec"
)

// Paused is a rollout that stopped because of failures: until a user brings the service up again, the daemon leaves its
// containers as they are.
type Paused struct {
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

func (r *Reconciler) pausedPath(stack string) string {
	return filepath.Join(r.stackDir(stack), "paused.json")
}

// Paused are the services of a stack whose rollout is paused.
func (r *Reconciler) Paused(stack string) (map[string]Paused, error) {
	data, err := os.ReadFile(r.pausedPath(stack))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	paused := map[string]Paused{}
	if err == nil {
		err = json.Unmarshal(data, &paused)
	}
	if err != nil {
		return nil, fmt.Errorf("stack %s: paused rollouts: %w", stack, err)
	}
	return paused, nil
}

// paused tells of rollouts that wait for a user.
func (t *telling) paused() (out []AddressStatus) {
	paused, err := t.r.Paused(t.s.name)
	if err != nil {
		t.r.logf("%v", err) // the plan has failed for it
	}
	for name, p := range paused {
		if t.w.desired.Services[name] != nil {
			out = append(out, AddressStatus{
				Address: spec.ServiceAddress(name).String(), Name: name, State: "present", Condition: "rollout paused", Reason: p.Why, Since: p.Since,
				Next: "nothing until `stack up`",
			})
		}
	}
	return out
}

// pause records that a rollout stopped.
func (r *Reconciler) pause(stack string, ro *rollout) error {
	paused, err := r.Paused(stack)
	if err != nil {
		r.logf("%v", err) // and written anew
	}
	if paused == nil {
		paused = map[string]Paused{}
	}
	paused[ro.Service] = Paused{Why: ro.why(), Since: time.Now()}
	return r.writePaused(stack, paused)
}

// resume forgets that rollouts of the services that an up is about are paused.
func (r *Reconciler) resume(stack string, desired *spec.Stack, opts planner.Options) error {
	paused, err := r.Paused(stack)
	if err == nil && len(paused) == 0 {
		return nil
	}
	scope, err := planner.Scope(desired, opts)
	if err != nil {
		return err
	}
	left := maps.Clone(paused)
	maps.DeleteFunc(left, func(name string, _ Paused) bool { return scope[name] || desired.Services[name] == nil })
	return r.writePaused(stack, left)
}

func (r *Reconciler) writePaused(stack string, paused map[string]Paused) error {
	path := r.pausedPath(stack)
	if len(paused) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("stack %s: paused rollouts: %w", stack, err)
		}
		return nil
	}
	data, err := json.Marshal(paused)
	if err == nil {
		err = atomicfile.Write(path, data, true)
	}
	if err != nil {
		return fmt.Errorf("stack %s: paused rollouts: %w", stack, err)
	}
	return nil
}
