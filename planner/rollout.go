package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stack-run/stack/spec"
)

// Rollout is how a plan replaces the containers of one service, and why so.
type Rollout struct {
	Service    string `json:"service"`
	Order      string `json:"order"` // spec.StartFirst or spec.StopFirst
	Why        string `json:"why"`
	Containers int    `json:"containers"` // how many are put in place, those that a rollout before this one began with included
	// Parallelism is how many at a time: from 1 to Containers.
	Parallelism     int           `json:"parallelism"`
	Delay           time.Duration `json:"delay,omitempty"`
	Monitor         time.Duration `json:"monitor,omitempty"`
	MaxFailureRatio float64       `json:"max_failure_ratio,omitempty"`
	FailureAction   string        `json:"failure_action"`
	// Back says that it goes back to what the service was before, by its rollback_config.
	Back bool `json:"back,omitempty"`
	// watched says that the file has a word on it, so that each batch is watched before the next one.
	watched bool
}

// chooseOrders decides for each service in which order and how many at a time its containers are replaced. Services come
// after what they depend on.
func (u *up) chooseOrders() {
	for _, name := range u.graph.order {
		u.chooseOrder(u.services[name])
	}
}

func (u *up) chooseOrder(s *course) {
	bound := u.bound(s)
	if bound != "" {
		u.dropSuccessors(s)
	}
	replaced := s.replaced()
	auto := s.Policy != nil && s.Policy.Rollout == spec.RolloutAuto
	config, back := s.UpdateConfig, slices.Contains(u.opts.RollBack, s.Name)
	if back && (config != nil || s.RollbackConfig != nil) {
		if config = s.RollbackConfig; config == nil {
			config = &spec.Rollout{Parallelism: 1, FailureAction: spec.Pause, Monitor: spec.DefaultMonitor}
		}
	}
	if len(replaced) == 0 || config == nil && !auto {
		return
	}
	r := &Rollout{
		Service: s.Name, Order: spec.StopFirst, Why: "the file doesn't say, and so it is as the specification has it",
		Containers: len(replaced) + len(s.unproven()), Parallelism: 1, FailureAction: spec.Pause, Back: back, watched: config != nil,
	}
	if config != nil {
		r.Parallelism, r.Delay, r.Monitor = config.Parallelism, config.Delay, config.Monitor
		r.MaxFailureRatio, r.FailureAction = config.MaxFailureRatio, config.FailureAction
	}
	switch {
	case config != nil && config.Order == spec.StartFirst:
		r.Order, r.Why = spec.StartFirst, "the file says so"
		if why := cmp.Or(bound, s.single()); why != "" {
			r.Order, r.Why = spec.StopFirst, "start-first can't be: "+why
		}
	case config != nil && config.Order != "":
		r.Why = "the file says so"
	case auto:
		r.Order, r.Why = spec.StartFirst, "rollout: auto, and two at a time do no harm"
		if why := cmp.Or(bound, u.unsafe(s)); why != "" {
			r.Order, r.Why = spec.StopFirst, "rollout: auto, but "+why
		}
	}
	if r.Parallelism == 0 || r.Parallelism > len(replaced) || bound != "" {
		r.Parallelism = len(replaced)
	}
	if s.rollout = r; u.oneShot[s.Name] {
		r.Order, r.Why, r.Parallelism, r.Monitor, s.rollout = spec.StopFirst, "it runs to its end", len(replaced), 0, nil
	}
	u.plan.Rollouts = append(u.plan.Rollouts, *r)
}

// replaced are the fates that put a running container in another one's place, those that are half-way there first.
func (s *course) replaced() []*fate {
	var half, rest []*fate
	for _, f := range s.fates {
		switch {
		case f.what != replace:
		case f.next != nil:
			half = append(half, f)
		case f.start:
			rest = append(rest, f)
		}
	}
	return append(half, rest...)
}

// unproven tells whether a container of the version wanted is not known to be good: a rollout that was interrupted or
// failed put it in place.
func (f *fate) unproven() bool {
	return f.what == keep && !f.rename &&
		(f.start || hasProcess(f.old) && (f.old.State == Restarting || f.old.Health == Starting || f.old.Health == Unhealthy))
}

func (s *course) unproven() []*fate {
	var some []*fate
	for _, f := range s.fates {
		if f.unproven() {
			some = append(some, f)
		}
	}
	return some
}

// bound is why all containers of the service are replaced at once, old ones first, whatever the file says: something else
// in the plan waits for their stop, or shares what they have. Empty when nothing does.
func (u *up) bound(s *course) string {
	for _, f := range s.fates {
		if f.what != replace {
			continue
		}
		if key := u.onRemadeNetwork(s, f.old); key != "" {
			return "the network " + key + " is made again"
		}
		if f.early {
			return "another container takes over what it gives up"
		}
		if slices.ContainsFunc(f.old.NamespaceOf, func(id string) bool { return u.going[id] != nil }) {
			return "it shares a namespace of a container that is replaced"
		}
	}
	for _, dependent := range u.dependents[s.Name] {
		for _, l := range u.links[dependent] {
			if l.service == s.Name && l.binds() {
				return dependent + " shares its namespace or volumes"
			}
		}
	}
	for _, l := range s.links {
		if u.tied(l) {
			return "it can't run while " + l.service + " is replaced"
		}
	}
	return ""
}

// tied tells whether a dependent has to stop before what it depends on does.
func (u *up) tied(l link) bool {
	provider := u.services[l.service]
	if l.binds() && (provider.recreated || provider.shrunk) {
		return true
	}
	return l.follows() && (provider.recreated || provider.restarted) && !provider.rolling()
}

// rolling tells whether some of the service's containers serve all the time while the others are replaced.
func (s *course) rolling() bool {
	r := s.rollout
	return r != nil && !s.restarted && (r.Order == spec.StartFirst || r.Parallelism < s.replicas)
}

// single is why two containers of the service can't be at the same time.
func (s *course) single() string {
	if why := s.Single(); why != "" {
		return why
	}
	for _, p := range s.Ports {
		if n := p.Choices(); n > 1 && n <= s.replicas {
			return fmt.Sprintf("its %d containers need all ports of the range %s", s.replicas, p.Published)
		}
	}
	return ""
}

// unsafe is why two containers of the service at a time could do harm; empty where nothing speaks against it.
func (u *up) unsafe(s *course) string {
	if why := s.single(); why != "" {
		return why
	}
	if s.ContainerName != "" {
		return "it has a container_name"
	}
	if s.NetworkMode == "host" {
		return "it is on the host's network"
	}
	for _, mode := range []string{s.NetworkMode, s.PID, s.IPC, s.UTS, s.Cgroup} {
		if strings.HasPrefix(mode, "service:") || strings.HasPrefix(mode, "container:") {
			return "it shares a namespace of " + mode
		}
	}
	mounted := map[string]bool{}
	for _, m := range s.Mounts {
		mounted[m.Target] = true
		switch {
		case m.ReadOnly:
		case m.Type == spec.MountBind:
			return "it writes to " + m.Source
		case m.Type == spec.MountVolume && m.Source != "":
			return "it writes to the volume " + m.Source
		case m.Type == spec.MountVolume:
			return "it keeps data in " + m.Target
		}
	}
	for _, from := range s.VolumesFrom {
		if !strings.HasSuffix(from, ":ro") {
			return "it writes to the volumes of " + strings.TrimSuffix(from, ":rw")
		}
	}
	if image := u.observed.Images[s.Image]; image != nil {
		for _, target := range image.Volumes {
			if !mounted[target] {
				return "its image keeps data in " + target
			}
		}
	}
	return ""
}

// balanced tells whether the kernel chooses among the service's containers, so that one of them can be taken out of the
// choice: behind a fixed host port or a virtual address.
func (s *course) balanced() bool {
	if s.NetworkMode != "" && s.NetworkMode != "bridge" {
		return false
	}
	return s.EndpointMode == spec.VIP || slices.ContainsFunc(s.Ports, func(p spec.Port) bool { return p.Choices() == 1 })
}

// batches are the fates that are replaced at the same time.
func (s *course) batches() [][]*fate {
	if s.rollout == nil {
		return nil
	}
	return slices.Collect(slices.Chunk(s.replaced(), s.rollout.Parallelism))
}

// serving tells whether another container of the service serves while the one with this fate is stopped.
func (s *course) serving(f *fate) bool {
	var together []*fate // those replaced at the same time
	for _, batch := range s.batches() {
		if slices.Contains(batch, f) {
			together = batch
		}
	}
	return slices.ContainsFunc(s.fates, func(other *fate) bool {
		switch {
		case other == f || other.old == nil || !hasProcess(other.old):
			return false
		case other.what == keep:
			return other.old.State == Running
		case other.what == replace:
			return s.rollout != nil && !slices.Contains(together, other)
		}
		return false
	})
}

// linkBatches lets each batch wait for the one before it: until its containers serve, and have stayed good for as long as
// the file says.
func (u *up) linkBatches(s *course) {
	var gates []int
	for _, f := range s.unproven() {
		if s.rollout != nil {
			gates = append(gates, f.serveID)
		}
	}
	for i, batch := range s.batches() {
		var last []int
		for _, f := range batch {
			u.after(f.begins(), gates...)
			last = append(last, f.last())
		}
		gates = last
		if !s.rollout.watched {
			continue
		}
		action := Action{Address: spec.ServiceAddress(s.Name).String(), Service: s.Name, Reason: RollingOut}
		watch := action
		watch.Kind, watch.For, watch.Batch = Monitor, s.rollout.Monitor, i+1
		id := u.add(s.rank, watch)
		u.after(id, last...)
		gates = []int{id}
		if s.rollout.Delay > 0 && i < len(s.batches())-1 {
			action.Kind, action.For = Delay, s.rollout.Delay
			id = u.add(s.rank, action)
			u.after(id, gates...)
			gates = []int{id}
		}
	}
}

// begins is the first action of a replacement.
func (f *fate) begins() int {
	for _, id := range []int{f.drainID, f.stopID, f.removeID, f.createID} {
		if f.succeeds() {
			break
		}
		if id != none {
			return id
		}
	}
	for _, id := range []int{f.createID, f.updateID, f.startID} {
		if id != none {
			return id
		}
	}
	return f.serveID
}

// last is the last action of a replacement.
func (f *fate) last() int {
	for _, id := range []int{f.renameID, f.serveID, f.started()} {
		if id != none {
			return id
		}
	}
	return f.createID
}

// String is the rollout in words: how, how many at a time, and what happens when it fails.
func (r Rollout) String() string {
	text := r.Order + " (" + r.Why + ")"
	if r.Back {
		text = "back, " + text
	}
	if r.Containers > 1 {
		text += fmt.Sprintf(", %d of %d at a time", r.Parallelism, r.Containers)
	}
	if r.Delay > 0 && r.Parallelism < r.Containers {
		text += fmt.Sprintf(", %s between them", r.Delay)
	}
	if r.Monitor > 0 {
		text += fmt.Sprintf(", watched for %s", r.Monitor)
	}
	text += ", on failure " + r.FailureAction
	if r.MaxFailureRatio > 0 {
		text += fmt.Sprintf(" (when more than %g %% fail)", 100*r.MaxFailureRatio)
	}
	return text
}
