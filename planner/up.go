package planner

import (
	"maps"
	"slices"

	"github.com/stack-run/stack/spec"
)

// Up plans the whole convergence of a stack: `up`, `create` (Options.NoStart), `scale`, and the daemon's loop
// (Options.KeepStopped). desired is the complete stack, whatever services are selected: what is missing from it is an
// orphan. The error is Problems; then nothing should be touched.
//
// What it decides, and on which conditions:
//   - A container is made again when an attribute of its service that can't be changed in place (needsContainer), its
//     image, a network it is on, or a volume it mounts differs, when it shares a namespace or volumes with one that is
//     made again, when it is half-made, or by force.
//   - Other differences alone update it in place; so does an earlier update that was not finished.
//   - Dependents that say `restart: true`, and those that live in a namespace, restart with what they depend on.
//   - What exited is started again, but for a service whose success others wait for (one-shot): once it
//     has exited with 0 from the same digest, it is done.
//   - With KeepStopped, an exited container is started only where its restart policy asks for it, and what a user
//     stopped is left alone.
//
// And in which order: everything after all pulls, so that a failing pull harms nothing that runs; a start after the
// starts of what it depends on and after the conditions it waits for; the stop of a container to be replaced after all
// that its successor needs, so that it serves until then, unless something else waits for that stop.
func Up(desired *spec.Stack, observed *Observed, opts Options) (Plan, error) {
	u, err := newUp(desired, observed, opts)
	if err != nil {
		return Plan{}, err
	}
	u.judgeNetworks()
	u.judgeOrphans()
	for _, name := range u.graph.order {
		u.decide(u.services[name])
	}
	u.checkServices()
	u.findHandovers()
	u.chooseOrders()

	u.draftNetworks()
	u.draftVolumes()
	u.draftOrphans()
	u.draftServices()
	u.draftJobs()
	u.linkNetworks()
	u.linkServices()
	u.linkHandovers()
	u.waitForAll()
	u.draftPulls()
	u.checkNames()
	return u.seal()
}

// Ranks: builds, pulls, then networks and volumes, then the services in their order, each with room for the waits on it.
const (
	rankBuild  = -1
	rankPull   = 0
	rankInfra  = 1
	rankStep   = 4
	rankOfWait = 1 // after the service it waits for
)

// up is one run of Up, Start or Restart.
type up struct {
	draft
	*graph
	desired  *spec.Stack
	observed *Observed
	opts     Options

	services  map[string]*course    // by name: all of desired
	networks  map[string]*netCourse // by key: those in use
	volumes   map[string]int        // by key: creating actions
	waits     map[waitKey]int
	going     map[string]*fate // by id: containers that are replaced or removed
	present   map[string]bool  // by id: containers that are there, also those of other stacks
	same      map[*Container]bool
	orphans   []*fate
	handovers []handover
}

// course is what a plan does to one service.
type course struct {
	*spec.Service
	links      []link
	containers []*Container // as observed, without one-off ones
	// bystander is a service that wasn't asked for: its containers are touched only when something they depend on leaves
	// them no choice.
	bystander bool
	replicas  int
	oneOff    bool // `run` makes a container of it
	fates     []*fate
	rank      int
	rollout   *Rollout // nil: all containers are replaced at once, without a look at what comes of it
	// preStartID runs the pre_start hooks that are once for all containers.
	preStartID int

	added     bool // some container is made where there was none
	recreated bool // some container is made again
	shrunk    bool // some container is removed
	restarted bool // some running container is stopped and started
	revived   bool // some container that didn't run is started
}

func newUp(desired *spec.Stack, observed *Observed, opts Options) (*up, error) {
	g, err := newGraph(desired.Name, desired.Services)
	if err != nil {
		return nil, err
	}
	u := &up{
		draft:    draft{plan: Plan{Stack: desired.Name}},
		graph:    g,
		desired:  desired,
		observed: observed,
		opts:     opts,
		services: map[string]*course{},
		networks: map[string]*netCourse{},
		volumes:  map[string]int{},
		waits:    map[waitKey]int{},
		going:    map[string]*fate{},
		present:  map[string]bool{},
		same:     map[*Container]bool{},
	}
	u.chooseServices()
	return u, u.problems.err()
}

// chooseServices fills in the services and finds out which of them are asked for.
func (u *up) chooseServices() {
	for _, name := range u.opts.Services {
		u.known(name)
	}
	for name, n := range u.opts.Scale {
		if u.known(name) && n < 0 {
			u.problem(Problem{Kind: ErrScale, Address: spec.ServiceAddress(name).String(), Summary: "a service can't have fewer than 0 replicas"})
		}
	}
	if len(u.problems) > 0 {
		return
	}
	chosen := u.chosen()
	byService := map[string][]*Container{}
	for i := range u.observed.Containers {
		c := &u.observed.Containers[i]
		u.present[c.ID] = true
		if !c.OneOff {
			byService[c.Service] = append(byService[c.Service], c)
		}
	}
	for _, id := range u.observed.Foreign {
		u.present[id] = true
	}
	for i, name := range u.graph.order {
		s := u.desired.Services[name]
		c := &course{Service: s, links: u.links[name], containers: byService[name], bystander: !chosen[name], replicas: s.Replicas, preStartID: none}
		if n, ok := u.opts.Scale[name]; ok {
			c.replicas = n
		}
		switch {
		case name == u.opts.OneOff:
			c.oneOff, c.replicas, c.containers = true, 0, nil
		}
		c.rank = (i + 1) * rankStep
		u.services[name] = c
	}
}

func (u *up) chosen() map[string]bool {
	switch {
	case len(u.opts.Services) == 0:
		all := map[string]bool{}
		for name := range u.desired.Services {
			all[name] = true
		}
		return all
	case u.opts.NoDeps:
		return reach(u.opts.Services, func(string) []string { return nil })
	}
	return u.closure(u.opts.Services)
}

func (u *up) known(name string) bool {
	if u.desired.Services[name] != nil {
		return true
	}
	u.problem(unknownService(name, u.desired))
	return false
}

// unknownService is the problem of a service that was named but isn't in the stack, with what comes close.
func unknownService(name string, stack *spec.Stack) Problem {
	p := Problem{Kind: ErrUnknownService, Address: spec.ServiceAddress(name).String(), Summary: "no such service: " + name}
	if stack == nil {
		return p
	}
	if profiles := stack.Disabled[name]; len(profiles) > 0 {
		p.Summary = "no active profile enables " + name
		p.Remedy = "enable it with --profile " + profiles[0]
	} else if stack.Jobs[name] != nil {
		p.Remedy = name + " is a job: run it with `stack job run " + name + "`"
	} else if similar := spec.Closest(name, slices.Collect(maps.Keys(stack.Services))); similar != "" {
		p.Remedy = "did you mean " + similar + "?"
	}
	return p
}
