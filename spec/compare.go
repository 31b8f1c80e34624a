package spec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Difference is what differs in one resource between two desired states.
type Difference struct {
	Address string   `json:"address"`
	Verb    string   `json:"verb"` // added, removed, changed
	Changes []Change `json:"changes,omitempty"`
}

// The verbs of a Difference.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Compare lists what differs between two desired states of a stack, resource by resource; either may be nil. What says where
// a stack file is, and where in it something is written, is no difference.
func Compare(old, new *Stack) []Difference {
	if old == nil {
		old = &Stack{}
	}
	if new == nil {
		new = &Stack{}
	}
	var all []Difference
	compareAll(&all, ServiceAddress, old.Services, new.Services, Diff)
	compareAll(&all, JobAddress, old.Jobs, new.Jobs, DiffJobs)
	compareAll(&all, NetworkAddress, old.Networks, new.Networks, diffResource[*Network])
	compareAll(&all, VolumeAddress, old.Volumes, new.Volumes, diffResource[*Volume])
	compareAll(&all, ConfigAddress, old.Configs, new.Configs, diffFile(true))
	compareAll(&all, SecretAddress, old.Secrets, new.Secrets, diffFile(false))
	if changes := diffResource(old.Policy, new.Policy); len(changes) > 0 {
		all = append(all, Difference{Address: "stack", Verb: Changed, Changes: under("x-stack", changes)})
	}
	return all
}

func compareAll[T any](all *[]Difference, address func(string) Address, old, new map[string]*T, diff func(old, new *T) []Change) {
	keys := maps.Clone(old)
	if keys == nil {
		keys = map[string]*T{}
	}
	maps.Copy(keys, new)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		o, n := old[key], new[key]
		d := Difference{Address: address(key).String(), Verb: Changed, Changes: diff(o, n)}
		switch {
		case o == nil:
			d.Verb = Added
		case n == nil:
			d.Verb = Removed
		case len(d.Changes) == 0:
			continue
		}
		*all = append(*all, d)
	}
}

// diffResource is the difference of two values field by field.
func diffResource[T any](old, new T) []Change {
	var d differ
	d.compare("", valueTree(old), valueTree(new))
	slices.SortStableFunc(d.changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return d.changes
}

func valueTree(v any) any {
	decoder := json.NewDecoder(bytes.NewReader(mustJSON(v)))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		panic(fmt.Sprintf("spec: decode what was just encoded: %v", err))
	}
	if tree == nil {
		return map[string]any{}
	}
	return tree
}

// diffFile is the difference of two configs or secrets, whose contents show as short digests or not at all.
func diffFile(digests bool) func(old, new *File) []Change {
	content := func(f *File) string {
		switch {
		case f == nil || f.Digest == "":
			return ""
		case digests:
			return show("configs.x."+contentKey, f.Digest)
		}
		return `"(secret)"`
	}
	return func(old, new *File) []Change {
		o, n := withoutContent(old), withoutContent(new)
		changes := diffResource(o, n)
		if old != nil && new != nil && old.Digest != new.Digest {
			changes = append(changes, Change{Path: contentKey, Old: content(old), New: content(new)})
		}
		return changes
	}
}

func withoutContent(f *File) *File {
	if f == nil {
		return nil
	}
	bare := *f
	bare.Content, bare.Digest = nil, ""
	return &bare
}

func under(prefix string, changes []Change) []Change {
	for i := range changes {
		changes[i].Path = prefix + "." + changes[i].Path
	}
	return changes
}
