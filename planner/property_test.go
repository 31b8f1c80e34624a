package planner

import (
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

// TestPlansConverge checks, for stacks and states made by chance, what holds for every plan.
func TestPlansConverge(t *testing.T) {
	const seeds = 1200
	impossible := 0
	for seed := range int64(seeds) {
		if !converges(t, seed) {
			impossible++
		}
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
	if impossible > seeds/2 {
		t.Errorf("%d of %d situations have no plan: they prove too little", impossible, seeds)
	}
}

func FuzzPlansConverge(f *testing.F) {
	for seed := range int64(10) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) { converges(t, seed) })
}

// converges brings a stack up, changes the stack file and the host by chance, and brings it up again. It returns false
// when there is no plan for what came out.
func converges(t *testing.T, seed int64) bool {
	t.Helper()
	r := rand.New(rand.NewSource(seed))
	m := &model{observed: &Observed{Stack: "demo", Networks: map[string]*Network{}, Volumes: map[string]*Volume{}, Images: map[string]*Image{}, Jobs: map[string]*Job{}}}
	// Ports move between services only where all services are brought up: otherwise one may rightly be in use.
	partly := r.Intn(2) == 0
	m.desired = randomStack(r, !partly)
	if _, ok := m.up(t, r, Options{}); !ok {
		return false
	}
	m.desired = randomStack(r, !partly)
	disturb(r, m.observed)
	opts := randomOptions(r, m.desired, partly)
	if r.Intn(3) == 0 && !m.interrupted(t, r, opts) {
		return false
	}
	plan, ok := m.up(t, r, opts)
	if !ok {
		return false
	}
	if opts.ForceRecreate || opts.AlwaysRecreateDeps || opts.NoStart {
		opts.ForceRecreate, opts.AlwaysRecreateDeps, opts.NoStart = false, false, false
		plan, ok = m.up(t, r, opts)
		if !ok {
			t.Error("a plan with force but none without")
		}
	}
	again, err := Up(m.desired, m.observed, opts)
	if err != nil || len(again.Actions) > 0 {
		t.Errorf("after\n%s\nthere is still to do\n%s%v", Render(plan, RenderOptions{Verbose: true}), Render(again, RenderOptions{Verbose: true}), err)
	}
	m.checkContainers(t, plan, opts)
	down, err := Down(m.observed, m.desired, DownOptions{RemoveOrphans: true, Volumes: true, Images: AllImages})
	if err != nil {
		t.Error(err)
	}
	m.execute(t, r, down)
	if len(m.observed.Containers) > 0 || len(m.observed.Networks) > 0 || len(m.observed.Jobs) > 0 {
		t.Errorf("after down there are still %v and %v", m.observed.Containers, m.observed.Networks)
	}
	return true
}

// up plans twice, expecting the same, and executes the plan in a random order that it allows.
func (m *model) up(t *testing.T, r *rand.Rand, opts Options) (Plan, bool) {
	t.Helper()
	g, err := newGraph(m.desired.Name, m.desired.Services)
	if err != nil {
		t.Fatal(err)
	}
	m.oneShot = g.oneShot
	before := clone(m.observed)
	plan, err := Up(m.desired, m.observed, opts)
	if err != nil {
		return plan, false
	}
	twin, _ := Up(m.desired, before, opts)
	if !reflect.DeepEqual(plan, twin) {
		t.Errorf("two plans for the same:\n%s\n%s", Render(plan, RenderOptions{Verbose: true}), Render(twin, RenderOptions{Verbose: true}))
	}
	for _, a := range plan.Actions {
		if a.Kind == RemoveVolume || a.Kind == RemoveImage {
			t.Errorf("up would %s %s", a.Kind, a.Name)
		}
	}
	m.started, m.prepared, m.loop = nil, nil, opts.KeepStopped
	m.execute(t, r, plan)
	m.checkOrder(t, g, plan)
	return plan, true
}

func (m *model) execute(t *testing.T, r *rand.Rand, plan Plan) {
	t.Helper()
	if err := plan.Check(); err != nil {
		t.Error(err)
	}
	done, before := map[int]bool{}, m.wanted(plan)
	for len(done) < len(plan.Actions) {
		ready := plan.Ready(done)
		if len(ready) == 0 {
			t.Fatal("nothing is ready")
		}
		a := plan.Actions[ready[r.Intn(len(ready))]]
		if err := m.do(a); err != nil {
			t.Fatalf("%s %s (#%d): %v, in\n%s", a.Kind, a.Address, a.ID, err, Render(plan, RenderOptions{Verbose: true}))
		}
		done[a.ID] = true
		for _, rollout := range plan.Rollouts {
			if least, serving := least(rollout, before[rollout.Service]), m.serving()[rollout.Service]; serving < least {
				t.Fatalf("after #%d, %d containers of %s serve, not %d, in\n%s", a.ID, serving, rollout.Service, least, Render(plan, RenderOptions{Verbose: true}))
			}
		}
	}
}

// wanted counts the containers of each service that serve and are not too many.
func (m *model) wanted(plan Plan) map[string]int {
	n := m.serving()
	gone := map[string]bool{}
	for _, a := range plan.Actions {
		if (a.Kind == RemoveContainer || a.Kind == StopContainer) && a.Reason == ScaleDown {
			gone[a.ContainerID] = true
		}
	}
	restarted := map[string]bool{}
	for _, a := range plan.Actions {
		restarted[a.Service] = restarted[a.Service] || a.Kind == StopContainer && (a.Reason == DependencyRecreated || a.Reason == DependencyRestarted)
	}
	for _, c := range m.observed.Containers {
		if c.State == Running && !c.Drained && !c.OneOff && (gone[c.ID] || c.Succeeds != "") {
			n[c.Service]--
		}
		if restarted[c.Service] || m.oneShot[c.Service] {
			n[c.Service] = 0
		}
	}
	return n
}

// least is how many containers of a service have to serve at any time of a rollout, of those that did before.
func least(r Rollout, before int) int {
	if r.Order == spec.StartFirst {
		return before
	}
	return max(0, before-r.Parallelism)
}

// serving counts the containers of each service that run and are not drained.
func (m *model) serving() map[string]int {
	n := map[string]int{}
	for _, c := range m.observed.Containers {
		if c.State == Running && !c.Drained && !c.OneOff {
			n[c.Service]++
		}
	}
	return n
}

// interrupted executes a plan up to some action, as when everything is killed.
func (m *model) interrupted(t *testing.T, r *rand.Rand, opts Options) bool {
	t.Helper()
	plan, err := Up(m.desired, m.observed, opts)
	if err != nil {
		return false
	}
	g, err := newGraph(m.desired.Name, m.desired.Services)
	if err != nil {
		t.Fatal(err)
	}
	m.started, m.loop, m.oneShot = nil, opts.KeepStopped, g.oneShot
	done := map[int]bool{}
	for range r.Intn(len(plan.Actions) + 1) {
		ready := plan.Ready(done)
		a := plan.Actions[ready[r.Intn(len(ready))]]
		if err := m.do(a); err != nil {
			t.Fatalf("%s %s (#%d): %v, in\n%s", a.Kind, a.Address, a.ID, err, Render(plan, RenderOptions{Verbose: true}))
		}
		done[a.ID] = true
	}
	return true
}

// checkContainers finds containers that are too many, have a wrong name, or are left half-way between two versions.
func (m *model) checkContainers(t *testing.T, plan Plan, opts Options) {
	t.Helper()
	chosen := map[string]bool{}
	for name := range m.desired.Services {
		chosen[name] = len(opts.Services) == 0
	}
	for _, name := range opts.Services {
		chosen[name] = true
	}
	seen := map[string]bool{}
	for _, c := range m.observed.Containers {
		s := m.desired.Services[c.Service]
		if s == nil || c.OneOff || !chosen[c.Service] || opts.KeepStopped && c.Stopped {
			continue
		}
		if name := s.ContainerNameOf("demo", c.Replica); c.Name != name || c.Succeeds != "" || c.Drained || seen[name] {
			t.Errorf("in the end there is %s of %s[%d], successor of %q, drained: %v, after\n%s",
				c.Name, c.Service, c.Replica, c.Succeeds, c.Drained, Render(plan, RenderOptions{Verbose: true}))
		} else {
			seen[name] = true
		}
	}
}

// checkOrder finds starts before those of what they depend on.
func (m *model) checkOrder(t *testing.T, g *graph, plan Plan) {
	t.Helper()
	for service, links := range g.links {
		first := slices.Index(m.started, service)
		for _, l := range links {
			for i, name := range m.started {
				if name == l.service && first >= 0 && i > first {
					t.Errorf("%s started before %s, in\n%s", service, name, Render(plan, RenderOptions{Verbose: true}))
				}
			}
		}
	}
}

var names = []string{"a", "b", "c", "d", "e", "f"}

func randomStack(r *rand.Rand, movePorts bool) *spec.Stack {
	stack := &spec.Stack{
		Name: "demo", Services: map[string]*spec.Service{},
		Networks: map[string]*spec.Network{}, Volumes: map[string]*spec.Volume{},
	}
	for _, key := range []string{"default", "back"} {
		stack.Networks[key] = &spec.Network{Key: key, Name: "demo_" + key, Internal: r.Intn(5) == 0}
	}
	for _, key := range []string{"data", "cache"} {
		stack.Volumes[key] = &spec.Volume{Key: key, Name: "demo_" + key}
		if r.Intn(5) == 0 {
			stack.Volumes[key].DriverOpts = map[string]string{"type": "tmpfs"}
		}
	}
	for _, name := range []string{"nightly", "report"} {
		if r.Intn(2) == 0 {
			if stack.Jobs == nil {
				stack.Jobs = map[string]*spec.Job{}
			}
			stack.Jobs[name] = &spec.Job{Service: spec.Service{Name: name, Image: fmt.Sprint("image:", r.Intn(3))}}
		}
	}
	ports := r.Perm(len(names))
	if !movePorts {
		slices.Sort(ports)
	}
	for i, name := range names {
		if r.Intn(6) == 0 {
			continue
		}
		s := &spec.Service{
			Name: name, Image: fmt.Sprint("image:", r.Intn(3)), Replicas: r.Intn(4), Restart: spec.Restart{Condition: []string{spec.RestartNo, spec.RestartAlways}[r.Intn(2)]},
			Environment: map[string]string{"A": fmt.Sprint(r.Intn(2))}, Labels: map[string]string{"L": fmt.Sprint(r.Intn(2))},
			DependsOn: map[string]spec.Dependency{}, Networks: map[string]*spec.Attachment{},
		}
		s.Resources.Memory = int64(r.Intn(2)) << 30
		if r.Intn(4) == 0 {
			s.Resources.DeviceReadBps = []spec.ThrottleDevice{{Path: "/dev/sda", Rate: uint64(r.Intn(2) + 1)}}
		}
		if r.Intn(3) == 0 {
			s.Logging = &spec.Logging{Driver: []string{"", "local"}[r.Intn(2)], Options: map[string]string{"max-size": fmt.Sprint(r.Intn(2)+1, "m")}}
		}
		stack.Services[name] = s
		if r.Intn(2) == 0 {
			s.Replicas = 1
			if r.Intn(3) == 0 {
				s.ContainerName = fmt.Sprint("name-", r.Intn(3), name[:r.Intn(2)])
			}
		}
		randomRollout(r, s)
		for _, key := range []string{"default", "back"} {
			if r.Intn(2) == 0 {
				s.Networks[key] = &spec.Attachment{}
			}
		}
		if r.Intn(3) == 0 {
			s.Ports = []spec.Port{{Published: fmt.Sprint(8000 + ports[i]), Target: 80, Protocol: "tcp"}}
		}
		if r.Intn(4) == 0 {
			s.Mounts = []spec.Mount{{Type: spec.MountVolume, Source: []string{"data", "cache"}[r.Intn(2)], Target: "/v"}}
		}
		if r.Intn(4) == 0 {
			s.PostStart = []spec.Hook{{Command: []string{"hook", fmt.Sprint(r.Intn(2))}}}
		}
		if r.Intn(4) == 0 {
			hook := spec.InitContainer{PerReplica: r.Intn(2) == 0}
			hook.Name, hook.Image = name, fmt.Sprint("image:", r.Intn(4))
			s.PreStart = []spec.InitContainer{hook}
		}
		if r.Intn(4) == 0 {
			s.PreStop = []spec.Hook{{Command: []string{"hook", fmt.Sprint(r.Intn(2))}}}
		}
		randomDependencies(r, stack, s, names[:i])
	}
	return stack
}

func randomRollout(r *rand.Rand, s *spec.Service) {
	if r.Intn(3) == 0 {
		s.Policy = &spec.Policy{Rollout: spec.RolloutAuto}
	}
	if r.Intn(2) == 0 {
		s.UpdateConfig = &spec.Rollout{
			Parallelism: r.Intn(3), FailureAction: spec.Pause, Delay: time.Duration(r.Intn(2)),
			Order: []string{"", spec.StartFirst, spec.StopFirst}[r.Intn(3)],
		}
	}
}

func randomDependencies(r *rand.Rand, stack *spec.Stack, s *spec.Service, earlier []string) {
	for _, dep := range earlier {
		d := stack.Services[dep]
		if d == nil {
			continue
		}
		switch r.Intn(10) {
		case 0, 1:
			s.DependsOn[dep] = spec.Dependency{Condition: spec.Started, Required: r.Intn(4) > 0, Restart: r.Intn(3) == 0}
		case 2, 3:
			s.DependsOn[dep] = spec.Dependency{Condition: spec.Healthy, Required: true, Restart: r.Intn(3) == 0}
		case 4:
			if s.NetworkMode == "" && r.Intn(2) == 0 {
				s.NetworkMode, s.Networks = "service:"+dep, nil
			}
		case 5:
			if r.Intn(2) == 0 {
				s.VolumesFrom = append(s.VolumesFrom, dep)
			}
		}
	}
	// One that others wait to complete can't be waited for to be healthy, too: only the last service waits so.
	if s.Name == "f" && stack.Services["a"] != nil && len(s.DependsOn) == 0 {
		if used := slices.ContainsFunc(names, func(n string) bool {
			other := stack.Services[n]
			return other != nil && (other.DependsOn["a"].Condition == spec.Healthy || other.NetworkMode == "service:a")
		}); !used && s.NetworkMode != "service:a" {
			s.DependsOn["a"] = spec.Dependency{Condition: spec.CompletedSuccessfully, Required: true}
		}
	}
}

// disturb changes what is there as crashes and users do.
func disturb(r *rand.Rand, o *Observed) {
	for i := range o.Containers {
		c := &o.Containers[i]
		switch r.Intn(12) {
		case 0:
			c.State, c.ExitCode, c.Stopped = Exited, r.Intn(2), r.Intn(2) == 0
		case 1:
			c.State = Broken
		case 2:
			c.State = Paused
		case 3:
			c.State = Created
		case 4:
			c.State, c.Health = Running, Healthy
		case 5:
			c.State, c.Updating = Running, true
		}
		c.HooksPending = c.State == Running && len(c.Spec.PostStart) > 0 && r.Intn(3) == 0
	}
	for i := len(o.Containers) - 1; i >= 0; i-- {
		if r.Intn(12) == 0 {
			o.Containers = slices.Delete(o.Containers, i, i+1)
		}
	}
	for _, j := range o.Jobs {
		j.Suspended = r.Intn(3) == 0
	}
	for _, image := range o.Images {
		if r.Intn(6) == 0 {
			image.ID += "+"
		}
	}
	for _, n := range o.Networks {
		if r.Intn(8) == 0 {
			n.Drift = []string{"the bridge is missing"}
		}
	}
}

func randomOptions(r *rand.Rand, stack *spec.Stack, partly bool) Options {
	opts := Options{
		RemoveOrphans: true, ForceRecreate: r.Intn(8) == 0, AlwaysRecreateDeps: r.Intn(8) == 0, RenewAnonVolumes: r.Intn(8) == 0,
		NoStart: r.Intn(8) == 0, WaitHealthy: r.Intn(4) == 0, KeepStopped: r.Intn(4) == 0,
	}
	if opts.KeepStopped {
		opts.WaitHealthy = false // the loop waits for nothing but what its starts need
	}
	for _, name := range names {
		if partly && stack.Services[name] != nil && r.Intn(6) == 0 {
			opts.Services = append(opts.Services, name)
		}
	}
	return opts
}
