package reconciler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/spec"
)

// intent is what operations have asked for beyond the desired state: of which services, in which number. The loop keeps no
// more than that. It is on record, as <root>/stacks/<stack>/intent.json, before anything is done about it.
type intent struct {
	// Services that operations were about; others are none of the loop's business.
	Services map[string]*keeping `json:"services,omitempty"`
	// Orphans says that the last up asked for their removal.
	Orphans bool `json:"orphans,omitempty"`
	// Down is a down that was begun and has not ended.
	Down *planner.DownOptions `json:"down,omitempty"`
	// DownVolumes are the volumes that it removes: what its stack file said of them is not on record.
	DownVolumes []string `json:"down_volumes,omitempty"`
	// Suspended says that a user wants drift reported, not repaired.
	Suspended bool `json:"suspended,omitempty"`
}

// keeping is how far one service is kept.
type keeping struct {
	// Replicas in the place of the revision's: what `rm` has left.
	Replicas *int `json:"replicas,omitempty"`
	// AsIs says that its containers stay as they were made: they differ, and the last up was told to recreate nothing.
	AsIs bool `json:"as_is,omitempty"`
	// Idle says that it was created only: what was never started stays so.
	Idle bool `json:"idle,omitempty"`
	// Stopped says that all of it was stopped by a user: what gets lost of it meanwhile is not made again.
	Stopped bool `json:"stopped,omitempty"`
	// Image is what its containers are made from: a tag may point to another one by now. Empty asks the tag.
	Image string `json:"image,omitempty"`
}

func (r *Reconciler) intentPath(name string) string {
	return filepath.Join(r.root, "stacks", name, "intent.json")
}

// intentOf is what operations have asked of a stack. The caller must not change it: change makes a new one.
func (r *Reconciler) intentOf(s *stack) (*intent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.intent != nil {
		return s.intent, nil
	}
	data, err := os.ReadFile(r.intentPath(s.name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Brought up by a version that kept none: what has containers is kept, as far as it has.
		s.intent = r.presumed(s.name)
		return s.intent, nil
	case err != nil:
		return nil, fmt.Errorf("stack %s: %w", s.name, err)
	}
	in := &intent{}
	if err := json.Unmarshal(data, in); err != nil {
		return nil, fmt.Errorf("stack %s: read what was asked of it: %w; `stack up` writes it anew", s.name, err)
	}
	s.intent = in
	return in, nil
}

func (r *Reconciler) presumed(name string) *intent {
	in := &intent{Services: map[string]*keeping{}}
	for _, v := range r.engine.List(name) {
		if v.OneOff || v.Phase != runtime.Made {
			continue
		}
		k := in.Services[v.Service]
		if k == nil {
			k = &keeping{Replicas: new(int), AsIs: true}
			in.Services[v.Service] = k
		}
		*k.Replicas++
	}
	return in
}

// changeIntent records what an operation asks for, before it is done. Where nothing changes nothing is written.
func (r *Reconciler) changeIntent(s *stack, change func(*intent)) error {
	old, err := r.intentOf(s)
	if err != nil {
		old = &intent{} // what can't be read is written anew
	}
	next := old.clone()
	change(next)
	if err == nil && reflect.DeepEqual(old, next) && r.recorded(s.name) {
		return nil
	}
	if err := r.writeIntent(s, next); err != nil {
		return err
	}
	s.mu.Lock()
	s.intent = next
	s.mu.Unlock()
	return nil
}

func (r *Reconciler) writeIntent(s *stack, in *intent) error {
	data, err := json.Marshal(in)
	if err == nil {
		err = atomicfile.Write(r.intentPath(s.name), data, true)
	}
	if err != nil {
		return fmt.Errorf("stack %s: keep what was asked of it: %w", s.name, err)
	}
	return nil
}

func (r *Reconciler) recorded(name string) bool {
	_, err := os.Stat(r.intentPath(name))
	return err == nil
}

func (in *intent) clone() *intent {
	out := *in
	out.Services = make(map[string]*keeping, len(in.Services))
	for name, k := range in.Services {
		copied := *k
		out.Services[name] = &copied
	}
	return &out
}

// upIntent records what an up, create, scale or run asks for. images are those in the store, nil where some are about to be
// pulled. What it asks for of each service, and in which number, is in the revision.
func (r *Reconciler) upIntent(s *stack, desired *spec.Stack, opts planner.Options, images map[string]*planner.Image) error {
	scope, err := planner.Scope(desired, opts)
	if err != nil {
		return err
	}
	return r.changeIntent(s, func(in *intent) {
		in.Down, in.DownVolumes = nil, nil
		if opts.OneOff == "" {
			in.Orphans = opts.RemoveOrphans && !opts.IgnoreOrphans
		}
		for name := range in.Services {
			if desired.Services[name] == nil {
				delete(in.Services, name)
			}
		}
		for name := range scope {
			svc := desired.Services[name]
			if svc == nil {
				continue
			}
			old, k := in.Services[name], &keeping{}
			k.AsIs = opts.NoRecreate && r.differs(s.name, svc, old)
			if img := images[svc.Image]; img != nil {
				k.Image = img.ID
			}
			if old != nil && opts.NoRecreate && old.Image != "" {
				k.Image = old.Image
			}
			k.Idle = opts.NoStart
			in.Services[name] = k
		}
	})
}

// onlyObserved tells whether drift of a stack is reported only.
func (r *Reconciler) onlyObserved(s *stack) bool {
	in, err := r.intentOf(s)
	if err != nil || in.Suspended {
		return err == nil
	}
	desired, err := r.desiredState(s)
	return err == nil && desired != nil && desired.Policy.Reconcile == spec.Observe
}

// differs tells whether a container of a service was made from something else than the service is by now.
func (r *Reconciler) differs(stack string, svc *spec.Service, old *keeping) bool {
	for _, v := range r.engine.Service(stack, svc.Name) {
		if v.OneOff || v.Phase != runtime.Made {
			continue
		}
		if !sameService(&v.Spec, svc) || old != nil && old.Image != "" && old.Image != v.ImageID {
			return true
		}
	}
	return old != nil && old.AsIs
}

// sameService compares what two services ask for, wherever they are written and however many there are.
func sameService(a, b *spec.Service) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Position, y.Position, x.Replicas, y.Replicas = "", "", 0, 0
	return reflect.DeepEqual(&x, &y)
}

// opIntent is what an operation on what runs asks for, read off its plan.
func (r *Reconciler) opIntent(s *stack, plan planner.Plan) error {
	if len(plan.Actions) == 0 {
		return nil
	}
	left := map[string]int{}
	for _, v := range r.engine.List(s.name) {
		if !v.OneOff {
			left[v.Service]++
		}
	}
	removed, stopped, started := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, a := range plan.Actions {
		switch a.Kind {
		case planner.RemoveContainer:
			if r.replica(a.ContainerID) {
				removed[a.Service]++
			}
		case planner.StopContainer, planner.KillContainer:
			if r.replica(a.ContainerID) && a.Signal == "" {
				stopped[a.Service]++
			}
		case planner.StartContainer:
			started[a.Service] = true
		}
	}
	return r.changeIntent(s, func(in *intent) {
		if len(started) > 0 {
			in.Down, in.DownVolumes = nil, nil // whoever starts something does not want it taken down any more
		}
		for _, name := range slices.Sorted(maps.Keys(in.Services)) {
			k := in.Services[name]
			n := left[name] - removed[name]
			switch {
			case removed[name] > 0 && n <= 0:
				delete(in.Services, name)
			case removed[name] > 0:
				k.Replicas = &n
			case started[name]:
				k.Idle, k.Stopped = false, false
			case stopped[name] > 0 && stopped[name] == n:
				k.Stopped = true
			}
		}
	})
}

// replica tells whether a container is one of a service, not one that `run` made.
func (r *Reconciler) replica(id string) bool {
	v, err := r.engine.Get(id)
	return err == nil && !v.OneOff
}
