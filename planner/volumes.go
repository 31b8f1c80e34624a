package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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
		case observed == nil && u.opts.KeepStopped && u.mounted(v.Name):
			u.note(address, fmt.Sprintf("the volume %s was removed while containers mount it; it is not made again by itself, since its data would be missing", v.Name),
				"bring its data back, or run `stack up` to start with an empty one")
		case observed == nil:
			u.volumes[key] = u.add(rankInfra, Action{Kind: CreateVolume, Address: address, Name: v.Name, Reason: Missing})
		case len(observed.Damage) > 0:
			u.note(address, fmt.Sprintf("the volume %s is damaged: %s; nothing is done about it", v.Name, strings.Join(observed.Damage, ", ")),
				"bring its data back from where you keep it, or remove the volume to start with an empty one")
		case len(observed.Drift) > 0:
			u.volumes[key] = u.add(rankInfra, Action{
				Kind: RepairVolume, Address: address, Name: v.Name, Reason: Drifted, Detail: strings.Join(observed.Drift, ", "),
			})
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

// mounted tells whether a container of the stack mounts a volume.
func (u *up) mounted(name string) bool {
	return slices.ContainsFunc(u.observed.Containers, func(c Container) bool { return slices.Contains(c.Volumes, name) })
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

// namedVolumes are the keys of the volumes that a service and its pre_start hooks mount.
func namedVolumes(s *spec.Service) []string {
	var keys []string
	for _, m := range s.Mounts {
		if m.Type == spec.MountVolume && m.Source != "" {
			keys = append(keys, m.Source)
		}
	}
	for i := range s.PreStart {
		keys = append(keys, namedVolumes(&s.PreStart[i].Service)...)
	}
	return keys
}
