package load

import (
	"slices"
	"strings"
)

// merge lays one file's say over another's, by Compose's rules as far as they decide what was written where.
// Neither is changed. The path has no more than the first steps that rules look at.
func merge(base, over *node, path []string) *node {
	switch {
	case over == nil || over.kind == null && !over.reset && !over.override:
		if base == nil {
			return over
		}
		return base
	case over.reset:
		return nil
	case over.override || base == nil || replaces(path):
		return over.clean()
	case base.kind == mapping && over.kind == mapping:
		if last(path) == "logging" && differentDrivers(base, over) {
			return over
		}
		return mergeFields(base, over, path)
	case base.kind == sequence && over.kind == sequence:
		merged := *over
		merged.items = slices.Clip(slices.Clone(base.items))
		for _, item := range over.items {
			merged.items = append(slices.DeleteFunc(merged.items, func(b *node) bool { return sameScalar(b, item) }), item)
		}
		return &merged
	case base.kind == mapping && over.kind == sequence:
		return mergeFields(base, over.asMapping(), path)
	case base.kind == sequence && over.kind == mapping:
		return mergeFields(base.asMapping(), over, path)
	case base.kind == sequence && over.kind == scalar:
		merged := *base
		merged.items = append(slices.Clip(slices.Clone(base.items)), over)
		return &merged
	}
	return over
}

func mergeFields(base, over *node, path []string) *node {
	merged := *over
	merged.fields = make(map[string]*node, len(base.fields)+len(over.fields))
	merged.order = nil
	for _, name := range base.order {
		if value := merge(base.fields[name], over.fields[name], join(path, name)); value != nil {
			merged.add(name, value)
		}
	}
	for _, name := range over.order {
		if _, ok := base.fields[name]; ok {
			continue
		}
		if value := merge(nil, over.fields[name], join(path, name)); value != nil {
			merged.add(name, value)
		}
	}
	return &merged
}

// clean drops what is marked !reset below.
func (n *node) clean() *node {
	if n.kind != mapping {
		return n
	}
	empty := &node{kind: mapping, fields: map[string]*node{}}
	return mergeFields(empty, n, nil)
}

// replaces tells whether a later file's value at the path takes the place of the earlier one instead of adding to it.
func replaces(path []string) bool {
	switch last(path) {
	case "command", "entrypoint":
		return len(path) == 3
	case "test":
		return len(path) == 4 && path[2] == "healthcheck"
	}
	return false
}

// Options of two different log drivers have nothing to do with each other.
func differentDrivers(base, over *node) bool {
	b, o := base.field("driver"), over.field("driver")
	return b != nil && o != nil && b.text != o.text
}

func sameScalar(a, b *node) bool {
	return a.kind == scalar && b.kind == scalar && a.text == b.text
}

// asMapping turns the list form of a mapping, NAME=value or NAME, into the other.
func (n *node) asMapping() *node {
	m := *n
	m.kind, m.items = mapping, nil
	m.fields = make(map[string]*node, len(n.items))
	for _, item := range n.items {
		if item.kind != scalar {
			continue
		}
		name, value, found := strings.Cut(item.text, "=")
		entry := *item
		entry.text = value
		if !found {
			entry.kind = null
		}
		m.add(name, &entry)
	}
	return &m
}

func last(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}
