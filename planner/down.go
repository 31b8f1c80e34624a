package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stack-run/stack/spec"
)

// DownOptions of a down.
type DownOptions struct {
	Services      []string // named by the user, taken down with what depends on them; empty is all
	Volumes       bool     // delete the stack's volumes: those the file declares, and anonymous ones
	Images        string   // "", local, all: images to remove. No image is local as long as none is built.
	RemoveOrphans bool
	Timeout       *time.Duration // of stops; nil: each service's stop_grace_period
}

// Values of DownOptions.Images.
const (
	LocalImages = "local"
	AllImages   = "all"
)

// Down plans `down`: stops and removes containers, dependents first, then what they used. Networks and volumes of
// others, external ones, and what something else still uses are left, and noted. Volumes go only with
// DownOptions.Volumes. desired may be nil.
func Down(observed *Observed, desired *spec.Stack, opts DownOptions) (Plan, error) {
	named := opts.Services
	if desired == nil {
		named = nil // without a file, a name that isn't there may be one that is gone already
	}
	e, err := newExisting(observed, desired, named)
	if err != nil {
		return Plan{}, err
	}
	d := &down{existing: e, desired: desired, opts: opts, removes: map[string]int{}}
	jobs := d.draftJobs()
	d.draftContainers()
	d.draftOrphans(jobs)
	d.draftNetworks()
	d.draftVolumes()
	d.draftImages()
	if len(d.plan.Actions) == 0 && len(d.plan.Notes) == 0 {
		d.note("", "no resource found to remove for stack "+d.stack.Name, "")
	}
	return d.seal()
}

type down struct {
	*existing
	desired *spec.Stack // nil without a file
	opts    DownOptions
	removes map[string]int // by container id
}

func (d *down) draftContainers() {
	var scope map[string]bool
	if len(d.opts.Services) > 0 {
		scope = d.above(d.opts.Services)
	}
	stops := map[string][]int{}
	for _, c := range d.chosen(slices.Sorted(maps.Keys(scope))) {
		stop, remove := d.draftDiscard(d.rank(c.Service), c, Requested, "", d.opts.Timeout)
		d.plan.Actions[remove].Volumes = d.opts.Volumes
		d.removes[c.ID] = remove
		if stop != none {
			stops[c.Service] = append(stops[c.Service], stop)
		}
	}
	d.dependentsFirst(stops)
}

func (d *down) draftOrphans(jobs []int) {
	for i := range d.observed.Containers {
		c := &d.observed.Containers[i]
		switch {
		case isOrphan(d.stack, c) && d.opts.RemoveOrphans:
			_, d.removes[c.ID] = d.draftDiscard(0, c, Orphan, "", d.opts.Timeout)
		case isOrphan(d.stack, c):
			noteOrphan(&d.draft, c)
		case c.OneOff && (len(d.opts.Services) == 0 || slices.Contains(d.opts.Services, c.Service)):
			detail := "made by `run`"
			if c.Job != "" {
				detail = "a run of the job"
			}
			stop, remove := d.draftDiscard(0, c, Requested, detail, d.opts.Timeout)
			d.plan.Actions[remove].Volumes = d.opts.Volumes || c.Job != ""
			d.after(stop, jobs...)
			d.after(remove, jobs...)
			d.removes[c.ID] = remove
		case d.stack.Disabled[c.Service] != nil && len(d.opts.Services) == 0:
			profile := d.stack.Disabled[c.Service]
			d.note(containerAddress(c), fmt.Sprintf("the container %s is left: no active profile enables its service", c.Name), "add --profile "+strings.Join(profile, " or "))
		}
	}
}

func (d *down) draftNetworks() {
	for _, name := range slices.Sorted(maps.Keys(d.observed.Networks)) {
		n := d.observed.Networks[name]
		if n.Stack != d.stack.Name || d.externalNetwork(name) {
			continue
		}
		users, after := d.users(n.Users, func(c *Container) bool { return c.holds(name) })
		address := spec.NetworkAddress(d.networkKey(name)).String()
		if len(users) > 0 {
			if len(d.opts.Services) == 0 {
				d.note(address, fmt.Sprintf("the network %s is kept: it is still used by %s", name, strings.Join(users, ", ")), "")
			}
			continue
		}
		if len(d.opts.Services) > 0 && len(after) == 0 {
			continue // nothing to do with the named services
		}
		id := d.add(d.lastRank(), Action{Kind: RemoveNetwork, Address: address, Name: name, Reason: Requested})
		d.after(id, after...)
	}
}

func (d *down) draftVolumes() {
	if !d.opts.Volumes {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(d.observed.Volumes)) {
		v := d.observed.Volumes[name]
		key, declared := d.volumeKey(name)
		address := spec.VolumeAddress(key).String()
		if v.Stack != d.stack.Name {
			if declared && !d.stack.Volumes[key].External {
				d.note(address, fmt.Sprintf("the volume %s is kept: it was not made by this stack", name), "remove it with `stack volume rm "+name+"`")
			}
			continue
		}
		if declared && d.stack.Volumes[key].External {
			continue
		}
		users, after := d.users(v.Users, func(c *Container) bool { return slices.Contains(c.Volumes, name) })
		switch {
		case len(users) > 0:
			if len(d.opts.Services) == 0 {
				d.note(address, fmt.Sprintf("the volume %s is kept: it is still used by %s", name, strings.Join(users, ", ")), "")
			}
			continue
		case len(d.opts.Services) > 0 && len(after) == 0:
			continue
		case d.desired != nil && !declared:
			d.note(address, fmt.Sprintf("the volume %s is kept: the stack file doesn't declare it any more", name), "remove it with `stack volume rm "+name+"`")
			continue
		}
		id := d.add(d.lastRank(), Action{Kind: RemoveVolume, Address: address, Name: name, Reason: Requested})
		d.after(id, after...)
	}
}

func (d *down) draftImages() {
	if d.opts.Images != AllImages {
		return
	}
	var scope map[string]bool
	if len(d.opts.Services) > 0 {
		scope = d.above(d.opts.Services)
	}
	done := map[string]bool{}
	for _, name := range d.graph.order {
		ref := d.stack.Services[name].Image
		if ref == "" || done[ref] || d.observed.Images[ref] == nil || scope != nil && !scope[name] {
			continue
		}
		done[ref] = true
		users, after := d.users(nil, func(c *Container) bool { return c.Spec.Image == ref })
		if len(users) > 0 {
			continue
		}
		id := d.add(d.lastRank(), Action{Kind: RemoveImage, Address: spec.ImageAddress(ref).String(), Name: ref, Reason: Requested, Service: name})
		d.after(id, after...)
	}
}

// users finds who still uses something after the plan: others, and containers of this stack that stay. after are the
// removals of those that use it now.
func (d *down) users(others []string, uses func(*Container) bool) (users []string, after []int) {
	users = slices.Clone(others)
	for i := range d.observed.Containers {
		c := &d.observed.Containers[i]
		if !uses(c) {
			continue
		}
		if id, removed := d.removes[c.ID]; removed {
			after = append(after, id)
		} else {
			users = append(users, c.Name)
		}
	}
	return users, after
}

// lastRank comes after all containers.
func (d *down) lastRank() int { return len(d.graph.order) + 1 }

func (d *down) externalNetwork(name string) bool {
	for _, n := range d.stack.Networks {
		if n.Name == name && n.External {
			return true
		}
	}
	return false
}

// networkKey is the network's key in the file, or what it was as far as its name tells.
func (d *down) networkKey(name string) string {
	for key, n := range d.stack.Networks {
		if n.Name == name {
			return key
		}
	}
	return strings.TrimPrefix(name, d.stack.Name+"_")
}

func (d *down) volumeKey(name string) (key string, declared bool) {
	for key, v := range d.stack.Volumes {
		if v.Name == name {
			return key, true
		}
	}
	return strings.TrimPrefix(name, d.stack.Name+"_"), false
}
