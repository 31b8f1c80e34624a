package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ServiceDependencies are the services this one waits for: depends_on, and what is implied by links, volumes_from and
// shared namespaces, as Compose has them.
func (s *Service) ServiceDependencies() map[string]Dependency {
	deps := maps.Clone(s.DependsOn)
	if deps == nil {
		deps = map[string]Dependency{}
	}
	imply := func(service string, restart bool) {
		if _, ok := deps[service]; !ok {
			deps[service] = Dependency{Condition: Started, Restart: restart, Required: true}
		}
	}
	for _, link := range s.Links {
		service, _, _ := strings.Cut(link, ":")
		imply(service, true)
	}
	for _, service := range s.SharesNamespaceOf() {
		imply(service, true)
	}
	for _, from := range s.VolumesFrom {
		if !strings.HasPrefix(from, "container:") {
			service, _, _ := strings.Cut(from, ":")
			imply(service, false)
		}
	}
	return deps
}

// SharesNamespaceOf lists, sorted, the services of which this one joins a namespace: its containers can't outlive theirs.
func (s *Service) SharesNamespaceOf() []string {
	var services []string
	for _, mode := range []string{s.NetworkMode, s.PID, s.IPC, s.UTS, s.Cgroup} {
		if service, ok := strings.CutPrefix(mode, "service:"); ok {
			services = append(services, service)
		}
	}
	slices.Sort(services)
	return slices.Compact(services)
}

// CycleError says that services depend on each other in a circle, so that none can start first.
type CycleError struct {
	Path []string // the first service is repeated at the end
}

func (e *CycleError) Error() string {
	return "dependency cycle: " + strings.Join(e.Path, " -> ")
}

// Order lists the services so that each comes after all it depends on, and alphabetically where nothing else decides.
// Dependencies on services that are not in the map are passed over. The error is a *CycleError.
func Order(services map[string]*Service) ([]string, error) {
	var (
		order   []string
		done    = map[string]bool{}
		path    []string
		descend func(name string) error
	)
	descend = func(name string) error {
		if done[name] {
			return nil
		}
		if i := slices.Index(path, name); i >= 0 {
			return &CycleError{Path: append(slices.Clone(path[i:]), name)}
		}
		path = append(path, name)
		for _, dep := range slices.Sorted(maps.Keys(services[name].ServiceDependencies())) {
			if services[dep] == nil {
				continue
			}
			if err := descend(dep); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		done[name] = true
		order = append(order, name)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if err := descend(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// UnknownServiceError says that a service was named which the stack does not have.
type UnknownServiceError struct {
	Name     string
	Profiles []string // set when the service exists but no active profile enables it
	Job      bool     // the name is that of a job
	Similar  string   // the closest name the stack has, if any is close
}

func (e *UnknownServiceError) Error() string {
	switch {
	case e.Job:
		return fmt.Sprintf("no such service: %s: it is a job; run it with `stack job run %s`", e.Name, e.Name)
	case len(e.Profiles) > 0:
		return fmt.Sprintf("no such service: %s: it is disabled; enable it with one of the profiles %s", e.Name, strings.Join(e.Profiles, ", "))
	case e.Similar != "":
		return fmt.Sprintf("no such service: %s; did you mean %s?", e.Name, e.Similar)
	}
	return "no such service: " + e.Name
}
