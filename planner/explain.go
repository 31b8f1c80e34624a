package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// Explanation tells what a plan compared about one address, and why it does something or nothing.
type Explanation struct {
	Address string      `json:"address"`
	Verdict string      `json:"verdict"`
	Checks  []Criterion `json:"checks"`
}

// Criterion is one thing that was compared. OK says that it is no reason to do anything.
type Criterion struct {
	What     string        `json:"what"`
	Desired  string        `json:"desired,omitempty"`
	Observed string        `json:"observed,omitempty"`
	OK       bool          `json:"ok"`
	Note     string        `json:"note,omitempty"`
	Changes  []spec.Change `json:"changes,omitempty"`
}

// Explain tells for addresses of the desired state what Up compares. The error is Problems, as of Up, and for addresses that
// name nothing.
func Explain(desired *spec.Stack, observed *Observed, opts Options, addresses []string) ([]Explanation, error) {
	u, err := newUp(desired, observed, opts)
	if err != nil {
		return nil, err
	}
	u.judgeNetworks()
	u.judgeOrphans()
	for _, name := range u.graph.order {
		u.decide(u.services[name])
	}
	var all []Explanation
	for _, text := range addresses {
		found := u.explain(text)
		if len(found) == 0 {
			u.problem(Problem{
				Kind: ErrNotFound, Address: text, Summary: "the stack has nothing of this address to explain",
				Remedy: "write it as plans do: service.web, service.web[2], network.front, volume.data, image.nginx:1",
			})
		}
		all = append(all, found...)
	}
	return all, u.problems.err()
}

func (u *up) explain(text string) []Explanation {
	address, err := spec.ParseAddress(text)
	if err != nil {
		return nil
	}
	switch address.Kind {
	case spec.KindService:
		if s := u.services[address.Name]; s != nil {
			return u.explainService(s, address.Replica)
		}
	case spec.KindNetwork:
		if n := u.desired.Networks[address.Name]; n != nil {
			return []Explanation{u.explainNetwork(n)}
		}
	case spec.KindVolume:
		if v := u.desired.Volumes[address.Name]; v != nil {
			return []Explanation{u.explainVolume(v)}
		}
	case spec.KindJob:
		if job := u.desired.Jobs[address.Name]; job != nil {
			return []Explanation{u.explainJob(job)}
		}
	case spec.KindImage:
		for _, name := range u.graph.order {
			if s := u.services[name]; s.Image == address.Name {
				return []Explanation{u.explainImage(s)}
			}
		}
	}
	return nil
}

// explainService explains one replica, or with 0 all that there are or will be.
func (u *up) explainService(s *course, replica int) []Explanation {
	var all []Explanation
	for _, f := range s.fates {
		if replica == 0 || f.replica == replica {
			all = append(all, u.explainReplica(s, f))
		}
	}
	if len(all) == 0 && replica == 0 {
		all = append(all, Explanation{
			Address: spec.ServiceAddress(s.Name).String(), Verdict: "nothing: it is to have no containers, and has none",
			Checks: []Criterion{u.replicas(s)},
		})
	}
	return all
}

func (u *up) explainReplica(s *course, f *fate) Explanation {
	e := Explanation{Address: spec.ReplicaAddress(s.Name, f.replica).String(), Verdict: f.verdict()}
	e.Checks = append(e.Checks, u.scope(s), u.replicas(s))
	c := f.old
	if c == nil {
		e.Checks = append(e.Checks, Criterion{What: "container", Desired: s.ContainerNameOf(u.desired.Name, f.replica), Observed: "none"})
		return e
	}
	e.Checks = append(e.Checks, u.state(s, f), u.configuration(s, c), u.image(s, c))
	e.Checks = append(e.Checks, u.itsNetworks(s, c)...)
	e.Checks = append(e.Checks, u.itsVolumes(s, c)...)
	e.Checks = append(e.Checks, u.itsProviders(s, c)...)
	for _, flag := range []struct {
		on   bool
		name string
	}{{u.forced(s.Name) && !s.bystander, "--force-recreate"}, {u.opts.NoRecreate, "--no-recreate"}, {u.opts.NoStart, "--no-start"}, {u.opts.KeepStopped, "keep what users stopped"}} {
		if flag.on {
			e.Checks = append(e.Checks, Criterion{What: "option", Observed: flag.name, OK: flag.name != "--force-recreate"})
		}
	}
	return e
}

// verdict is what happens to the replica, and why.
func (f *fate) verdict() string {
	word := "nothing: all is as it should be"
	switch {
	case f.what == replace:
		word = "recreate"
	case f.what == create:
		word = "create"
	case f.what == discard:
		word = "remove"
	case f.what == restart:
		word = "restart"
	case f.start:
		word = "start"
	case f.unpause:
		return "unpause"
	case len(f.update) > 0:
		return "update in place: " + summary(f.update)
	case f.unfinished:
		return "update in place: " + string(Unfinished)
	}
	if f.reason != "" {
		word += ": " + string(f.reason)
		if f.detail != "" {
			word += ": " + f.detail
		}
	}
	return word
}

func (u *up) scope(s *course) Criterion {
	c := Criterion{What: "selected", Observed: "all services are", OK: true}
	switch {
	case s.bystander:
		c.Observed, c.Note = "no", "touched only where something it is tied to leaves no choice"
	case slices.Contains(u.opts.Services, s.Name):
		c.Observed = "by name"
	case len(u.opts.Services) > 0:
		c.Observed = "as a dependency"
	}
	return c
}

func (u *up) replicas(s *course) Criterion {
	return Criterion{
		What: "replicas", Desired: fmt.Sprint(s.replicas), Observed: fmt.Sprint(len(s.containers)), OK: s.replicas == len(s.containers),
	}
}

func (u *up) state(s *course, f *fate) Criterion {
	c := f.old
	cr := Criterion{What: "state", Desired: Running, Observed: c.State, OK: c.State == Running || c.State == Restarting}
	switch {
	case u.done(s, c):
		cr.Desired, cr.OK, cr.Note = "completed", true, "a one-shot service that has completed is done until something about it changes"
	case c.State == Exited && c.Stopped:
		cr.Note = "a user stopped it"
		cr.OK = u.opts.KeepStopped
	case c.State == Exited:
		cr.Note = exitCode(c)
	}
	if c.Health != NoHealth && c.State == Running {
		cr.Observed += ", " + c.Health
	}
	return cr
}

// configuration compares the service with what the container was made from.
func (u *up) configuration(s *course, c *Container) Criterion {
	cr := Criterion{What: "configuration", Desired: "as in the stack file", Observed: "as in the stack file", OK: true}
	var needed, inPlace, ineffective []string
	for _, ch := range spec.Diff(&c.Spec, s.Service) {
		switch {
		case ignored[field(ch)]:
			ineffective = append(ineffective, ch.Path)
			continue
		case u.needsContainer(s, c, ch):
			needed = append(needed, ch.Path)
		default:
			inPlace = append(inPlace, ch.Path)
		}
		cr.OK, cr.Observed = false, "differs"
		cr.Changes = append(cr.Changes, ch)
	}
	var notes []string
	for _, n := range []struct {
		text  string
		paths []string
	}{{"needs a new container", needed}, {"changed in place", inPlace}, {"no matter to a container", ineffective}} {
		if len(n.paths) > 0 {
			notes = append(notes, n.text+": "+strings.Join(n.paths, ", "))
		}
	}
	cr.Note = strings.Join(notes, "; ")
	return cr
}

func (u *up) image(s *course, c *Container) Criterion {
	cr := Criterion{What: "image " + s.Image, Observed: short(c.ImageID), OK: true}
	switch image := u.observed.Images[s.Image]; {
	case image == nil:
		cr.Desired, cr.Note = "not in the store", "pulled when a container is made"
		if s.Policy != nil && s.Policy.Build != "" {
			cr.Note = "built when a container is made"
		}
	default:
		cr.Desired, cr.OK = short(image.ID), c.ImageID == "" || image.ID == c.ImageID
	}
	if policy := u.policy(s); policy == "always" && !u.opts.Pulled[s.Image] {
		cr.Note = "pull policy always: what the name points to is known after the pull"
	}
	return cr
}

func (u *up) itsNetworks(s *course, c *Container) []Criterion {
	var all []Criterion
	for _, key := range slices.Sorted(maps.Keys(s.Networks)) {
		d := u.desired.Networks[key]
		if d == nil {
			continue
		}
		cr := Criterion{What: "network " + key, Observed: "not on it"}
		n := u.observed.Networks[d.Name]
		if n != nil {
			cr.Desired = short(n.ID)
		}
		id, on := c.Networks[d.Name]
		if on {
			cr.Observed = "on " + short(id)
		}
		cr.OK = on && n != nil && n.ID == id
		if !cr.OK && len(c.Networks) == 0 && c.State != Running {
			cr.OK, cr.Note = true, "joined when it starts"
		}
		if course := u.networks[key]; course != nil && course.remake {
			cr.OK, cr.Note = false, "the network's options changed: it is made again"
		}
		all = append(all, cr)
	}
	return all
}

func (u *up) itsVolumes(s *course, c *Container) []Criterion {
	var all []Criterion
	for _, key := range namedVolumes(s.Service) {
		v := u.desired.Volumes[key]
		if v == nil {
			continue
		}
		cr := Criterion{What: "volume " + key, Desired: v.Name, Observed: "not mounted", OK: slices.Contains(c.Volumes, v.Name)}
		if cr.OK {
			cr.Observed = v.Name
		}
		if u.observed.Volumes[v.Name] == nil {
			cr.OK, cr.Note = false, "the volume is missing"
		}
		all = append(all, cr)
	}
	return all
}

// itsProviders are the services that the container is tied to.
func (u *up) itsProviders(s *course, c *Container) []Criterion {
	var all []Criterion
	for _, l := range s.links {
		p := u.services[l.service]
		cr := Criterion{What: "depends on " + l.service, OK: true, Observed: "stays as it is"}
		switch {
		case p.recreated:
			cr.Observed = "is recreated"
			cr.OK = !l.follows() && !l.binds()
		case p.restarted:
			cr.Observed = "is restarted"
			cr.OK = !l.follows()
		case p.added || p.revived:
			cr.Observed = "is started"
		}
		if l.shares && strayed(p, c) {
			cr.OK, cr.Observed = false, "the container whose namespace it shares is gone, or goes"
		}
		if cr.OK && (p.recreated || p.restarted) {
			cr.Note = "it neither shares a namespace or volume nor says `restart: true`"
		}
		all = append(all, cr)
	}
	return all
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
