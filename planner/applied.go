package planner

import (
	"maps"

	"github.com/stack-run/stack/spec"
)

// Applied is the desired state of a stack after an up of desired: what is kept as a revision and converged to from then on.
// It is desired itself with the replicas that Options.Scale asks for, except for services that the options leave alone:
//   - one that was applied before stays as it was then (previous, which may be nil, is the desired state until now);
//   - one of which there are only containers stays as these are;
//   - one that nobody has asked for yet has no replicas.
//
// So `up web` neither starts db later on nor applies what changed in db's part of the file. The arguments are not changed.
func Applied(desired, previous *spec.Stack, observed *Observed, opts Options) (*spec.Stack, error) {
	if len(opts.Services) == 0 && len(opts.Scale) == 0 && !opts.NoRecreate && opts.OneOff == "" && !(opts.NoStart && len(desired.Jobs) > 0) {
		return desired, nil
	}
	g, err := newGraph(desired.Name, desired.Services)
	if err != nil {
		return nil, err
	}
	u := &up{graph: g, desired: desired, opts: opts}
	chosen := u.chosen()
	there := observedStack(observed)
	applied := *desired
	applied.Services = make(map[string]*spec.Service, len(desired.Services))
	before := &spec.Stack{}
	if previous != nil {
		before = previous
	}
	left := false // some service or job is as it was before
	if len(opts.Services) > 0 || opts.OneOff != "" || opts.NoStart {
		applied.Jobs, left = before.Jobs, len(before.Jobs) > 0 // jobs are for who asks for the whole stack to run
	}
	for name, s := range desired.Services {
		old, container := before.Services[name], there.Services[name]
		asked := chosen[name] && name != opts.OneOff
		keep := !asked || opts.NoRecreate && container != nil
		switch {
		case keep && old != nil:
			s, left = old, true
		case keep && container != nil:
			s = container
		case keep:
			s = withReplicas(s, 0)
		}
		if n := desired.Services[name].Replicas; asked && s.Replicas != n {
			s = withReplicas(s, n)
		}
		if n, ok := opts.Scale[name]; ok && s.Replicas != n {
			s = withReplicas(s, n)
		}
		applied.Services[name] = s
	}
	if desired.Jobs[opts.OneOff] != nil {
		delete(applied.Services, opts.OneOff) // it was among them for the run
	}
	if left {
		applied.Networks = beside(applied.Networks, before.Networks)
		applied.Volumes = beside(applied.Volumes, before.Volumes)
		applied.Secrets = beside(applied.Secrets, before.Secrets)
		applied.Configs = beside(applied.Configs, before.Configs)
		applied.Prune()
	}
	return &applied, nil
}

func withReplicas(s *spec.Service, n int) *spec.Service {
	changed := *s
	changed.Replicas = n
	return &changed
}

// beside adds to what the file declares what it declared before.
func beside[T any](now, before map[string]*T) map[string]*T {
	all := maps.Clone(before)
	if all == nil {
		return now
	}
	maps.Copy(all, now)
	return all
}
