package load

import (
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec"
)

// tree is what all files together say, merged as compose-go merges them, with the place of each value. compose-go's own
// result is what counts; the tree serves to say where something was written, to see each attribute that was written,
// and to look for further errors when compose-go has found its first.
type tree struct {
	root *node
	// named are the files that a load was told to read or found by itself, without those that they refer to.
	named []*file
	// read are the files that were read or looked for beyond those named.
	read     []string
	findings spec.Diagnostics // what made a file unreadable
	keys     map[string]bool  // every key of every mapping of the files that were read
}

// kind of a node.
type kind int

const (
	null kind = iota
	scalar
	mapping
	sequence
)

// node is one value. Nodes are shared by what an anchor, an include or extends repeats, and never change once built.
type node struct {
	kind   kind
	file   *file
	line   int // of the value, or of its key where it has one: what a reader looks for
	column int
	text   string // of a scalar, as written
	tag    string // of a scalar: !!str, !!int, ...
	size   int    // number of values in it, itself included
	// reset and override are Compose's tags: drop what earlier files say here, or replace it instead of merging.
	reset    bool
	override bool

	fields map[string]*node
	order  []string // the fields' names as written
	items  []*node
}

// file is one stack file with what its text is resolved against.
type file struct {
	name string // absolute, or "-"
	dir  string // what relative paths in it are relative to
	env  types.Mapping
	// documents are the mappings in it, as the YAML has them.
	documents []*yaml.Node
}

func (n *node) field(name string) *node {
	if n == nil {
		return nil
	}
	return n.fields[name]
}

// at follows a path as far as it goes and returns the last node there is: the closest place to point to.
func (n *node) at(path ...string) *node {
	for _, step := range path {
		next := n.step(step)
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// get follows a path to its end, nil if there is nothing.
func (n *node) get(path ...string) *node {
	for _, step := range path {
		if n = n.step(step); n == nil {
			return nil
		}
	}
	return n
}

// step is a field by name, or an item by its index, or an item of the list form of a mapping ("NAME=value").
func (n *node) step(name string) *node {
	if n == nil {
		return nil
	}
	if n.kind == mapping {
		return n.fields[name]
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(n.items) {
		return n.items[i]
	}
	for _, item := range slices.Backward(n.items) {
		if key, _, _ := strings.Cut(item.text, "="); item.kind == scalar && key == name {
			return item
		}
	}
	return nil
}

// diagnose makes a finding about a place in the files.
func (t *tree) diagnose(severity spec.Severity, path []string, summary, remedy string) spec.Diagnostic {
	return t.root.at(path...).diagnose(severity, path, summary, remedy)
}

func (n *node) diagnose(severity spec.Severity, path []string, summary, remedy string) spec.Diagnostic {
	d := spec.Diagnostic{Severity: severity, Path: pathString(path), Summary: summary, Remedy: remedy}
	if n != nil && n.file != nil {
		d.File, d.Line, d.Column = n.file.name, n.line, n.column
	}
	return d
}

// pathString writes a path as Compose does: services.web.ports[0].
func pathString(path []string) string {
	var b strings.Builder
	for i, step := range path {
		if _, err := strconv.Atoi(step); err == nil && (i > 1 || i == 1 && path[0] == "include") {
			b.WriteString("[" + step + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(step)
	}
	return b.String()
}

// sorted orders findings by file, line and column, those without a place first, and drops repetitions.
func sorted(ds spec.Diagnostics) spec.Diagnostics {
	slices.SortStableFunc(ds, func(a, b spec.Diagnostic) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		if a.Column != b.Column {
			return a.Column - b.Column
		}
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Summary, b.Summary)
	})
	return slices.Compact(ds)
}

// join appends to a path without touching the array that other paths share.
func join(path []string, steps ...string) []string {
	return append(path[:len(path):len(path)], steps...)
}

// entryOf finds in the list at a path the entry that names a file, and returns the path of it; else the path as it is.
func (t *tree) entryOf(path []string, name string) []string {
	list := t.root.get(path...)
	if list == nil {
		return path
	}
	for i, item := range list.items {
		for _, candidate := range []*node{item, item.field("path")} {
			for _, text := range candidate.texts() {
				if absolute(item.file.dir, []string{text})[0] == name {
					return join(path, strconv.Itoa(i))
				}
			}
		}
	}
	return path
}
