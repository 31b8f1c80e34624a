package planner

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// link is what one service needs of another: an entry of depends_on, or implied.
type link struct {
	service string // the one that is needed
	spec.Dependency
	// shares says that containers of the dependent live in a namespace of the other's container.
	shares bool
	// mounts says that containers of the dependent mount the volumes of the other's container (volumes_from).
	mounts bool
}

// binds tells whether a new container on the other side needs a new container on this one.
func (l link) binds() bool { return l.shares || l.mounts }

// follows tells whether a restart of the other side brings a restart of this one.
func (l link) follows() bool { return l.shares || l.Restart }

// graph is how the services of a stack depend on each other.
type graph struct {
	links      map[string][]link   // by dependent, sorted by service; only to services that are there
	absent     map[string][]link   // by dependent: links to services that are not there
	dependents map[string][]string // by service, sorted
	order      []string            // each after what it depends on
	oneShot    map[string]bool     // services that run to their end: the file says so, or others wait for it
	owners     map[string]string   // container names, those of replicas to come included, to services
}

// newGraph reads the dependencies of the services. The error is a Problem with ErrCycle.
func newGraph(stack string, services map[string]*spec.Service) (*graph, error) {
	g := &graph{
		links: map[string][]link{}, absent: map[string][]link{}, dependents: map[string][]string{},
		oneShot: map[string]bool{}, owners: containerOwners(stack, services),
	}
	bare := make(map[string]*spec.Service, len(services)) // with nothing but the links
	for _, name := range slices.Sorted(maps.Keys(services)) {
		g.oneShot[name] = g.oneShot[name] || services[name].OneShot
		node := &spec.Service{Name: name, DependsOn: map[string]spec.Dependency{}}
		for _, l := range linksOf(services[name], g.owners) {
			if services[l.service] == nil {
				g.absent[name] = append(g.absent[name], l)
				continue
			}
			g.links[name] = append(g.links[name], l)
			g.dependents[l.service] = append(g.dependents[l.service], name)
			node.DependsOn[l.service] = l.Dependency
			if l.Condition == spec.CompletedSuccessfully {
				g.oneShot[l.service] = true
			}
		}
		bare[name] = node
	}
	order, err := spec.Order(bare)
	var cycle *spec.CycleError
	if errors.As(err, &cycle) {
		return nil, Problems{{
			Kind: ErrCycle, Address: spec.ServiceAddress(cycle.Path[0]).String(), Summary: cycle.Error(),
			Remedy: "remove one of these dependencies", Position: services[cycle.Path[0]].Position,
		}}
	}
	g.order = order
	return g, err
}

// containerOwners maps container names to the services they belong to, for references such as
// `network_mode: container:NAME` that mean a container of the same stack.
func containerOwners(stack string, services map[string]*spec.Service) map[string]string {
	owners := map[string]string{}
	for _, s := range services {
		for n := 1; n <= max(s.Replicas, 1); n++ {
			owners[s.ContainerNameOf(stack, n)] = s.Name
		}
	}
	return owners
}

// linksOf lists what a service needs, sorted by service.
func linksOf(s *spec.Service, owners map[string]string) []link {
	byService := map[string]link{}
	for name, dependency := range s.ServiceDependencies() {
		if dependency.Condition == "" {
			dependency.Condition = spec.Started
		}
		byService[name] = link{service: name, Dependency: dependency}
	}
	imply := func(name string, mark func(*link)) {
		l, ok := byService[name]
		if !ok {
			l = link{service: name, Dependency: spec.Dependency{Condition: spec.Started, Required: true}}
		}
		mark(&l)
		byService[name] = l
	}
	for _, name := range s.SharesNamespaceOf() {
		imply(name, func(l *link) { l.shares = true })
	}
	for _, name := range namespaceContainers(s) {
		if owner, ok := owners[name]; ok && owner != s.Name {
			imply(owner, func(l *link) { l.shares = true })
		}
	}
	for _, from := range s.VolumesFrom {
		name, _, _ := strings.Cut(from, ":")
		if container, ok := strings.CutPrefix(from, "container:"); ok {
			container, _, _ = strings.Cut(container, ":")
			if name, ok = owners[container]; !ok || name == s.Name {
				continue
			}
		}
		imply(name, func(l *link) { l.mounts = true })
	}
	links := make([]link, 0, len(byService))
	for _, name := range slices.Sorted(maps.Keys(byService)) {
		links = append(links, byService[name])
	}
	return links
}

// namespaceContainers are the containers, by name, of which the service joins a namespace (`container:NAME`).
func namespaceContainers(s *spec.Service) []string {
	var names []string
	for _, mode := range []string{s.NetworkMode, s.PID, s.IPC, s.UTS, s.Cgroup} {
		if name, ok := strings.CutPrefix(mode, "container:"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// closure is the named services with all that they depend on.
func (g *graph) closure(names []string) map[string]bool {
	return reach(names, func(name string) []string {
		var next []string
		for _, l := range g.links[name] {
			next = append(next, l.service)
		}
		return next
	})
}

// above is the named services with all that depend on them.
func (g *graph) above(names []string) map[string]bool {
	return reach(names, func(name string) []string { return g.dependents[name] })
}

func reach(names []string, next func(string) []string) map[string]bool {
	reached := map[string]bool{}
	for queue := slices.Clone(names); len(queue) > 0; {
		name := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !reached[name] {
			reached[name] = true
			queue = append(queue, next(name)...)
		}
	}
	return reached
}
