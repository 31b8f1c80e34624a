package spec

import (
	"maps"
	"slices"
)

// Select narrows the stack to the named services, as the service arguments of Compose's commands do: with what they
// depend on, directly or not, unless withDeps is false. Networks, volumes, secrets and configs that none of them uses
// go too. Without names it is the stack itself. Neither stack is changed; they share what is equal.
// The error is an *UnknownServiceError.
func (s *Stack) Select(names []string, withDeps bool) (*Stack, error) {
	if len(names) == 0 {
		return s, nil
	}
	chosen := map[string]bool{}
	var choose func(name string)
	choose = func(name string) {
		service := s.Services[name]
		if service == nil || chosen[name] {
			return // an absent one is an optional dependency: a required one would have failed to load
		}
		chosen[name] = true
		if withDeps {
			for dep := range service.ServiceDependencies() {
				choose(dep)
			}
		}
	}
	for _, name := range names {
		if s.Services[name] == nil {
			return nil, s.unknownService(name)
		}
		choose(name)
	}

	selected := *s
	selected.Jobs = nil
	selected.Services = make(map[string]*Service, len(chosen))
	for name := range chosen {
		service := *s.Services[name]
		service.DependsOn = maps.Clone(service.DependsOn)
		maps.DeleteFunc(service.DependsOn, func(dep string, _ Dependency) bool { return !chosen[dep] })
		selected.Services[name] = &service
	}
	selected.Prune()
	return &selected, nil
}

// Prune drops the networks, volumes, secrets and configs that no service or job uses. The maps are replaced, not changed.
func (s *Stack) Prune() {
	networks, volumes, secrets, configs := map[string]*Network{}, map[string]*Volume{}, map[string]*File{}, map[string]*File{}
	for _, service := range s.Workloads() {
		for key := range service.Networks {
			keep(networks, s.Networks, key)
		}
		for _, m := range service.Mounts {
			if m.Type == MountVolume {
				keep(volumes, s.Volumes, m.Source)
			}
		}
		for _, m := range service.Secrets {
			keep(secrets, s.Secrets, m.Source)
		}
		for _, m := range service.Configs {
			keep(configs, s.Configs, m.Source)
		}
	}
	s.Networks, s.Volumes, s.Secrets, s.Configs = networks, volumes, secrets, configs
}

func keep[T any](to, from map[string]*T, key string) {
	if v, ok := from[key]; ok {
		to[key] = v
	}
}

func (s *Stack) unknownService(name string) error {
	return &UnknownServiceError{
		Name:     name,
		Profiles: s.Disabled[name],
		Job:      s.Jobs[name] != nil,
		Similar:  Closest(name, slices.Collect(maps.Keys(s.Services))),
	}
}
