package planner

import (
	"fmt"
	"maps"
	"slices"

	"github.com/stack-run/stack/spec"
)

// draftVolumes creates the volumes that are missing. One whose options differ, or that another made, is shown and left
// as it is: its data is nothing that a plan may touch.
func (u *up) draftVolumes() {
	for _, key := range u.usedVolumes() {
		v := u.desired.Volumes[key]
		address := spec.VolumeAddress(key).String()
		observed := u.observed.Volumes[v.Name]
		switch {
		case observed == nil && v.External:
			u.problem(Problem{
				Kind: ErrNotFound, Address: address,
				Summary: fmt.Sprintf("the volume %s is external and doesn't exist", v.Name),
				Remedy:  "bring up the stack that makes it, or remove `external: true` so that this one does",
			})
		case observed == nil:
			u.volumes[key] = u.add(rankInfra, Action{Kind: CreateVolume, Address: address, Name: v.Name, Reason: Missing})
		case v.External:
		case observed.Stack != u.desired.Name:
			u.note(address, fmt.Sprintf("the volume %s exists but was not made by this stack; it is used as it is", v.Name),
				"say `external: true` if that is meant, or give the volume another name")
		case observed.Digest != "" && observed.Digest != VolumeDigest(*v):
			u.note(address, fmt.Sprintf("the options of the volume %s differ from the stack file; it is kept as it is, with its data", v.Name),
				"to apply them, save the data, remove the volume, and bring the stack up again")
		}
	}
}

// usedVolumes are the keys of the volumes that the plan's services mount, sorted.
func (u *up) usedVolumes() []string {
	used := map[string]bool{}
	for _, s := range u.services {
		if s.bystander && !s.makesContainers() {
			continue
		}
		for _, key := range namedVolumes(s.Service) {
			if u.desired.Volumes[key] != nil {
				used[key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// namedVolumes are the keys of the volumes that a service mounts.
func namedVolumes(s *spec.Service) []string {
	var keys []string
	for _, m := range s.Mounts {
		if m.Type == spec.MountVolume && m.Source != "" {
			keys = append(keys, m.Source)
		}
	}
	return keys
}
