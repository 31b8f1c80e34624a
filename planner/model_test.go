package planner

import (
	"fmt"
	"maps"
	"slices"

	"github.com/stack-run/stack/spec"
)

// model executes plans on an Observed as a host would, and refuses what a host would refuse.
type model struct {
	desired  *spec.Stack
	observed *Observed
	oneShot  map[string]bool // services whose containers end by themselves, with success
	made     int             // containers and networks so far: their ids
	started  []string        // services in the order of starts
	prepared []string        // addresses whose pre_start hooks have run in this plan
	loop     bool            // plans leave alone what ended for good, so that waits for it fail
}

// do executes one action.
func (m *model) do(a Action) error {
	switch a.Kind {
	case PullImage, BuildImage:
		if m.observed.Images[a.Name] == nil {
			m.observed.Images[a.Name] = &Image{ID: "sha256:" + a.Name}
		}
		m.observed.Images[a.Name].Stale = false
	case CreateNetwork:
		return m.createNetwork(a)
	case RepairNetwork:
		m.observed.Networks[a.Name].Drift = nil
	case RemoveNetwork:
		for _, c := range m.observed.Containers {
			if c.attached(a.Name) {
				return fmt.Errorf("%s is on it", c.Name)
			}
		}
		if m.observed.Networks[a.Name] == nil {
			return fmt.Errorf("not there")
		}
		delete(m.observed.Networks, a.Name)
	case CreateVolume:
		v := m.volume(a.Name)
		if v == nil || m.observed.Volumes[a.Name] != nil {
			return fmt.Errorf("not declared, or there already")
		}
		m.observed.Volumes[a.Name] = &Volume{Name: a.Name, Stack: m.desired.Name, Digest: VolumeDigest(*v)}
	case RemoveVolume:
		for _, c := range m.observed.Containers {
			if slices.Contains(c.Volumes, a.Name) {
				return fmt.Errorf("%s mounts it", c.Name)
			}
		}
		delete(m.observed.Volumes, a.Name)
	case RemoveImage:
		delete(m.observed.Images, a.Name)
	case AddJob, UpdateJob, RemoveJob, SuspendJob, ResumeJob:
		return m.job(a)
	case CreateContainer:
		return m.create(a)
	case Monitor, Delay:
	case Wait:
		return m.wait(a)
	default:
		return m.change(a)
	}
	return nil
}

func (m *model) job(a Action) error {
	kept := m.observed.Jobs[a.Name]
	if (kept == nil) != (a.Kind == AddJob) {
		return fmt.Errorf("the job is there, or isn't")
	}
	switch a.Kind {
	case AddJob, UpdateJob:
		m.observed.Jobs[a.Name] = &Job{Spec: *m.desired.Jobs[a.Name]}
	case RemoveJob:
		delete(m.observed.Jobs, a.Name)
	default:
		kept.Suspended = a.Kind == SuspendJob
	}
	return nil
}

func (m *model) createNetwork(a Action) error {
	for _, n := range m.desired.Networks {
		if n.Name == a.Name && m.observed.Networks[a.Name] == nil {
			m.made++
			m.observed.Networks[a.Name] = &Network{Name: a.Name, ID: fmt.Sprint("net-", m.made), Stack: m.desired.Name, Digest: NetworkDigest(*n)}
			return nil
		}
	}
	return fmt.Errorf("not declared, or there already")
}

func (m *model) volume(name string) *spec.Volume {
	for _, v := range m.desired.Volumes {
		if v.Name == name {
			return v
		}
	}
	return nil
}

func (m *model) create(a Action) error {
	s := *m.desired.Services[a.Service]
	image := m.observed.Images[s.Image]
	if image == nil {
		return fmt.Errorf("image %s is missing", s.Image)
	}
	m.made++
	c := Container{
		ID: fmt.Sprint("c-", m.made), Name: a.Name, Service: a.Service, Replica: a.Replica, Spec: s, ImageID: image.ID,
		State: Created, Succeeds: a.Succeeds, Networks: map[string]string{},
		Stopped: true, // until it is started: who only creates it wants it so
	}
	for key := range s.Networks {
		n := m.observed.Networks[m.desired.Networks[key].Name]
		if n == nil {
			return fmt.Errorf("network %s is missing", key)
		}
		c.Networks[n.Name] = n.ID
	}
	for _, key := range namedVolumes(&s) {
		v := m.observed.Volumes[m.desired.Volumes[key].Name]
		if v == nil {
			return fmt.Errorf("volume %s is missing", key)
		}
		c.Volumes = append(c.Volumes, v.Name)
	}
	for _, provider := range s.SharesNamespaceOf() {
		first := Container{}
		for _, p := range m.observed.Containers {
			if p.Service == provider && (first.Replica == 0 || p.Replica < first.Replica) {
				first = p
			}
		}
		if first.Replica == 0 {
			return fmt.Errorf("no container of %s to share a namespace with", provider)
		}
		c.NamespaceOf = append(c.NamespaceOf, first.ID)
	}
	for _, other := range m.observed.Containers {
		if other.Name == a.Name {
			return fmt.Errorf("the name %s is taken", a.Name)
		}
	}
	m.observed.Containers = append(m.observed.Containers, c)
	return nil
}

// change acts on a container that is there: by its id or, when the plan made it, by its name.
func (m *model) change(a Action) error {
	i := slices.IndexFunc(m.observed.Containers, func(c Container) bool {
		return a.ContainerID != "" && c.ID == a.ContainerID || a.ContainerID == "" && c.Name == a.Name
	})
	if i < 0 {
		return fmt.Errorf("no such container: %s %s", a.Name, a.ContainerID)
	}
	c := &m.observed.Containers[i]
	switch a.Kind {
	case StartContainer:
		return m.start(c)
	case StopContainer, KillContainer:
		if !hasProcess(c) {
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		c.State, c.Health, c.ExitCode = Exited, NoHealth, 137
	case RemoveContainer:
		if hasProcess(c) {
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		m.observed.Containers = slices.Delete(m.observed.Containers, i, i+1)
	case UpdateContainer:
		return m.update(c, m.desired.Services[c.Service])
	case PreStart:
		if hasProcess(c) {
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		for _, hook := range c.Spec.PreStart {
			if m.observed.Images[hook.Image] == nil {
				return fmt.Errorf("the image %s of a hook is missing", hook.Image)
			}
		}
		m.prepared = append(m.prepared, a.Address)
	case PostStart:
		if c.State == Created || c.State == Broken {
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		c.HooksPending = false
	case UnpauseContainer:
		c.State = Running
	case PauseContainer:
		c.State = Paused
	case DrainContainer:
		if !hasProcess(c) {
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		c.Drained = true
	case ServeContainer:
		if !hasProcess(c) && !m.oneShot[c.Service] {
			return fmt.Errorf("%s is %s", c.Name, c.State)
		}
		c.Drained = false
	case RenameContainer:
		for _, other := range m.observed.Containers {
			if other.Name == a.To {
				return fmt.Errorf("the name %s is taken", a.To)
			}
		}
		c.Name, c.Succeeds = a.To, ""
	default:
		return fmt.Errorf("unexpected kind")
	}
	return nil
}

// updateInPlace does what can be done to a container that is there, and fails where that is not what was planned.
func (m *model) update(c *Container, s *spec.Service) error {
	if len(s.Resources.DeviceReadBps) < len(c.Spec.Resources.DeviceReadBps) {
		return fmt.Errorf("a cgroup keeps the rates it was given")
	}
	if logDriver(s) != logDriver(&c.Spec) {
		return fmt.Errorf("a log keeps its driver")
	}
	c.Spec.Labels, c.Spec.Restart, c.Spec.Healthcheck, c.Spec.DependsOn = s.Labels, s.Restart, s.Healthcheck, s.DependsOn
	c.Spec.StopSignal, c.Spec.StopGrace, c.Spec.PreStop = s.StopSignal, s.StopGrace, s.PreStop
	c.Spec.Resources, c.Spec.Logging, c.Spec.Policy, c.Updating = s.Resources, s.Logging, s.Policy, false
	if c.Spec.NetworkMode != s.NetworkMode {
		return fmt.Errorf("a container keeps its network mode")
	}
	c.Spec.Networks, c.Networks = s.Networks, map[string]string{}
	for key := range s.Networks {
		n := m.observed.Networks[m.desired.Networks[key].Name]
		if n == nil {
			return fmt.Errorf("network %s is missing", key)
		}
		c.Networks[n.Name] = n.ID
	}
	c.Spec.Ports = s.Ports
	if hasProcess(c) {
		return m.portsFree(c)
	}
	return nil
}

func (m *model) start(c *Container) error {
	if hasProcess(c) || c.State == Broken {
		return fmt.Errorf("%s is %s", c.Name, c.State)
	}
	for name, id := range c.Networks {
		if n := m.observed.Networks[name]; n == nil || n.ID != id {
			return fmt.Errorf("%s is on a network %s that is gone", c.Name, name)
		}
	}
	if err := m.portsFree(c); err != nil {
		return err
	}
	for _, id := range c.NamespaceOf {
		if !slices.ContainsFunc(m.observed.Containers, func(p Container) bool { return p.ID == id }) {
			return fmt.Errorf("%s shares a namespace of %s, which is gone", c.Name, id)
		}
	}
	if err := m.checkPrepared(c); err != nil {
		return err
	}
	m.started, c.Initialized = append(m.started, c.Service), true
	c.State, c.Health, c.Stopped, c.Drained, c.HooksPending = Running, Healthy, false, false, len(c.Spec.PostStart) > 0
	if m.oneShot[c.Service] {
		c.State, c.Health, c.ExitCode = Exited, NoHealth, 0
	}
	return nil
}

// checkPrepared finds whether a container starts for the first time without its pre_start hooks.
func (m *model) checkPrepared(c *Container) error {
	if c.Initialized {
		return nil
	}
	sibling := slices.ContainsFunc(m.observed.Containers, func(o Container) bool { return o.Service == c.Service && o.Initialized })
	if len(c.Spec.PreStartHooks(false)) > 0 && !sibling && !slices.Contains(m.prepared, spec.ServiceAddress(c.Service).String()) {
		return fmt.Errorf("%s starts without the pre_start hooks of its service", c.Name)
	}
	if len(c.Spec.PreStartHooks(true)) > 0 && !slices.Contains(m.prepared, spec.ReplicaAddress(c.Service, c.Replica).String()) {
		return fmt.Errorf("%s starts without its pre_start hooks", c.Name)
	}
	return nil
}

// portsFree fails where a container of another service that runs has a port of this one.
func (m *model) portsFree(c *Container) error {
	for _, other := range m.observed.Containers {
		if other.Service == c.Service || !hasProcess(&other) {
			continue
		}
		for _, p := range c.Spec.Ports {
			if slices.ContainsFunc(other.Spec.Ports, func(o spec.Port) bool { return o.Published == p.Published }) {
				return fmt.Errorf("port %s of %s is in use by %s", p.Published, c.Name, other.Name)
			}
		}
	}
	return nil
}

// wait finds the condition met: in the model, what is started is healthy or has completed at once.
func (m *model) wait(a Action) error {
	for i := range m.observed.Containers {
		c := &m.observed.Containers[i]
		if c.Service != a.Service || c.OneOff || c.Stopped && !hasProcess(c) {
			continue
		}
		if m.oneShot[c.Service] && hasProcess(c) {
			c.State, c.Health, c.ExitCode = Exited, NoHealth, 0
		}
		if m.loop && c.State == Exited {
			continue
		}
		if !a.Optional && !satisfies(c, a.Condition) {
			return fmt.Errorf("%s is %s %s, not %s", c.Name, c.State, c.Health, a.Condition)
		}
	}
	return nil
}

// clone lets a plan be executed without changing what it was made for.
func clone(o *Observed) *Observed {
	c := *o
	c.Containers = slices.Clone(o.Containers)
	for i := range c.Containers {
		c.Containers[i].Networks = maps.Clone(c.Containers[i].Networks)
	}
	c.Networks, c.Volumes, c.Images = map[string]*Network{}, map[string]*Volume{}, map[string]*Image{}
	c.Jobs = map[string]*Job{}
	for name, j := range o.Jobs {
		cj := *j
		c.Jobs[name] = &cj
	}
	for name, n := range o.Networks {
		cn := *n
		c.Networks[name] = &cn
	}
	for name, v := range o.Volumes {
		cv := *v
		c.Volumes[name] = &cv
	}
	for name, i := range o.Images {
		ci := *i
		c.Images[name] = &ci
	}
	return &c
}
