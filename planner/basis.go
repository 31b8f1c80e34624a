package planner

import (
	"maps"
	"slices"

	"github.com/stack-run/stack/spec"
)

// Basis is what a plan was made from. A plan that was saved, or shown before it was confirmed, is applied only while all of
// it still holds.
type Basis struct {
	Revision int               `json:"revision"` // the stack's newest, 0 when there was none
	Observed map[string]string `json:"observed"` // Fingerprint
	Plan     string            `json:"plan"`     // Plan.Digest
}

// Moved lists the addresses whose observed state is not the same, sorted.
func (b Basis) Moved(now Basis) []string {
	var moved []string
	all := maps.Clone(b.Observed)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, now.Observed)
	for address := range all {
		if b.Observed[address] != now.Observed[address] {
			moved = append(moved, address)
		}
	}
	slices.Sort(moved)
	return moved
}

// Fingerprint is a short hash for each address of all that a plan depends on: what the containers are made from and whether
// they run, networks, volumes, images. Health isn't in it, nor what only other stacks have: both change while nobody
// touches this one.
func Fingerprint(desired *spec.Stack, observed *Observed) map[string]string {
	print := map[string]string{}
	add := func(address string, v any) {
		for print[address] != "" { // one-off containers share an address
			address += "'"
		}
		print[address] = digest(v)[len("sha256:"):][:16]
	}
	for _, c := range observed.Containers {
		c.Health = ""
		c.Volumes = slices.Sorted(slices.Values(c.Volumes))
		add(containerAddress(&c), c)
	}
	for key, n := range desired.Networks {
		if o := observed.Networks[n.Name]; o != nil {
			add(spec.NetworkAddress(key).String(), o)
		}
	}
	for key, v := range desired.Volumes {
		if o := observed.Volumes[v.Name]; o != nil {
			add(spec.VolumeAddress(key).String(), o)
		}
	}
	for name, job := range observed.Jobs {
		add(spec.JobAddress(name).String(), job)
	}
	for _, s := range desired.Services {
		if o := observed.Images[s.Image]; o != nil {
			address := spec.ImageAddress(s.Image).String()
			if print[address] == "" {
				add(address, o.ID)
			}
		}
	}
	return print
}

// Digest is a hash of what the plan does, but for its pulls and waits: pulls come first, and the plan that is made after them
// has to be the same; waits change nothing.
func (p Plan) Digest() string {
	var rest []Action
	for _, a := range p.Actions {
		if a.Kind == PullImage || a.Kind == BuildImage || a.Kind == Wait {
			continue
		}
		a.ID, a.After = 0, nil
		rest = append(rest, a)
	}
	return digest(rest)
}
