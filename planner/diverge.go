package planner

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// mustReplace finds out whether a container has to be made again, and returns nil when it can stay.
func (u *up) mustReplace(s *course, c *Container) *fate {
	again := func(reason Reason, detail string) *fate {
		f := newFate(replace, c, c.Replica, reason)
		f.detail = detail
		return f
	}
	if c.State == Broken {
		if s.bystander {
			return nil
		}
		return again(IsBroken, "")
	}
	if key := u.onRemadeNetwork(s, c); key != "" {
		return again(NetworkChanged, key)
	}
	if c.Lost != "" && !s.bystander {
		return again(Drifted, c.Lost)
	}
	done := u.done(s, c)
	if !done {
		if reason, provider := u.lostProvider(s, c); reason != "" {
			return again(reason, provider)
		}
	}
	if s.bystander {
		return nil
	}
	switch {
	case u.opts.NoRecreate, u.opts.AsIs[s.Name], u.paused(s):
		return nil
	case u.forced(s.Name):
		return again(Forced, "")
	}
	if f := u.specChanged(s, c, again); f != nil {
		return f
	}
	if image := u.observed.Images[s.Image]; image != nil && c.ImageID != "" && image.ID != c.ImageID {
		return again(ImageChanged, short(c.ImageID)+" → "+short(image.ID))
	}
	if done {
		return nil // it won't need its networks and volumes any more
	}
	if key := u.offNetwork(s, c); key != "" {
		return again(NetworkChanged, key)
	}
	if key := u.offVolume(s, c); key != "" {
		return again(VolumeChanged, key)
	}
	return nil
}

// forced tells whether the service is recreated whatever its state. As in Compose, --force-recreate is for the named
// services, --always-recreate-deps for what they bring along.
func (u *up) forced(service string) bool {
	if len(u.opts.Services) == 0 || slices.Contains(u.opts.Services, service) {
		return u.opts.ForceRecreate
	}
	return u.opts.AlwaysRecreateDeps
}

// specChanged compares the service with what the container was made from.
func (u *up) specChanged(s *course, c *Container, again func(Reason, string) *fate) *fate {
	if u.sameSpec(s, c) {
		return nil
	}
	changes := slices.DeleteFunc(spec.Diff(&c.Spec, s.Service), func(ch spec.Change) bool { return ignored[field(ch)] })
	var needed []spec.Change // those that can't be made in place
	for _, ch := range changes {
		if u.needsContainer(s, c, ch) {
			needed = append(needed, ch)
		}
	}
	if len(needed) == 0 {
		return nil
	}
	reason := SpecChanged
	if len(needed) > 0 && !slices.ContainsFunc(needed, func(ch spec.Change) bool { return !isContent(ch) }) {
		reason = ContentChanged
	}
	f := again(reason, summary(needed))
	f.changes = changes
	return f
}

// sameSpec is asked for twice of each container that stays.
func (u *up) sameSpec(s *course, c *Container) bool {
	same, known := u.same[c]
	if !known {
		same = sameSpec(&c.Spec, s.Service)
		u.same[c] = same
	}
	return same
}

// sameSpec is a quick look that saves a comparison field by field for each container that didn't change: false says nothing.
func sameSpec(a, b *spec.Service) bool {
	if a.Position == b.Position {
		return reflect.DeepEqual(a, b)
	}
	x := *a
	x.Position = b.Position
	return reflect.DeepEqual(&x, b)
}

// field is the attribute that a change is in: "environment" of "environment.LOG_LEVEL".
func field(ch spec.Change) string {
	if i := strings.IndexAny(ch.Path, ".["); i >= 0 {
		return ch.Path[:i]
	}
	return ch.Path
}

// isContent tells whether a change is of what is in a secret or config, rather than of how it is placed.
func isContent(ch spec.Change) bool {
	f := field(ch)
	return (f == "secrets" || f == "configs") && strings.HasSuffix(ch.Path, ".content") && ch.Old != "" && ch.New != ""
}

// summary names the first few changed paths.
func summary(changes []spec.Change) string {
	const most = 3
	var paths []string
	for _, ch := range changes {
		paths = append(paths, ch.Path)
	}
	if len(paths) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(paths[:most], ", "), len(paths)-most)
	}
	return strings.Join(paths, ", ")
}

// short is enough of an image's id to tell it from others.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// onRemadeNetwork is the key of a network that the container is on and that is made again.
func (u *up) onRemadeNetwork(s *course, c *Container) string {
	for _, key := range slices.Sorted(maps.Keys(u.networks)) {
		n := u.networks[key]
		if _, on := c.Networks[n.Name]; n.remake && (on || s.Networks[key] != nil) {
			return key
		}
	}
	return ""
}

// offNetwork is the key of a network that the container should be on and isn't, or only on one of the same name
// that is gone. A container that doesn't run may have left its networks.
func (u *up) offNetwork(s *course, c *Container) string {
	if len(c.Networks) == 0 && c.State != Running {
		return ""
	}
	for _, key := range slices.Sorted(maps.Keys(s.Networks)) {
		n := u.networks[key]
		if _, made := c.Spec.Networks[key]; n == nil || n.builtin() || !made { // what it was not made for is attached in place
			continue
		}
		id, on := c.Networks[n.Name]
		if !on || n.observed == nil || n.observed.ID != id {
			return key
		}
	}
	return ""
}

// offVolume is the key of a volume that the container should mount and doesn't, or that is gone underneath it.
func (u *up) offVolume(s *course, c *Container) string {
	for _, m := range s.Mounts {
		if m.Type != spec.MountVolume || m.Source == "" {
			continue
		}
		v := u.desired.Volumes[m.Source]
		if v == nil {
			continue
		}
		// The loop leaves what runs on a volume that was removed alone: a new one would be empty.
		gone := u.observed.Volumes[v.Name] == nil && !u.opts.KeepStopped
		if gone || !slices.Contains(c.Volumes, v.Name) {
			return m.Source
		}
	}
	return ""
}

// lostProvider is the service or container whose namespace or volumes the container holds on to although there is, or
// will be, another one in its place.
func (u *up) lostProvider(s *course, c *Container) (Reason, string) {
	for _, l := range s.links {
		provider := u.services[l.service]
		if !l.binds() {
			continue
		}
		touched := provider.added || provider.recreated || provider.restarted || provider.shrunk
		if l.shares && (touched || !s.bystander) && strayed(provider, c) {
			return NamespaceRecreated, l.service
		}
		if l.shares && len(c.NamespaceOf) > 0 {
			continue
		}
		if provider.recreated {
			return DependencyRecreated, l.service
		}
	}
	// A bystander may share by what it was made from, although the file says otherwise by now.
	for _, id := range c.NamespaceOf {
		if f := u.going[id]; f != nil {
			return NamespaceRecreated, f.old.Service
		}
	}
	for _, name := range namespaceContainers(s.Service) {
		id, ok := u.observed.Foreign[name]
		if ok && len(c.NamespaceOf) > 0 && !slices.Contains(c.NamespaceOf, id) {
			return NamespaceRecreated, "container " + name
		}
	}
	return "", ""
}

// strayed tells whether the container shares namespaces, but with none of the containers that the provider keeps.
func strayed(provider *course, c *Container) bool {
	if len(c.NamespaceOf) == 0 {
		return false
	}
	return !slices.ContainsFunc(provider.fates, func(f *fate) bool {
		return (f.what == keep || f.what == restart) && slices.Contains(c.NamespaceOf, f.old.ID)
	})
}
