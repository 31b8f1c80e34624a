// Package strictyaml reads configuration files of ours: whatever is wrong is found at once, each finding with the place where it
// was written. yaml.v3's own decoder has no columns, and stops at the first.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec"
)

// Reader walks the nodes of one file and collects what is wrong.
type Reader struct {
	File  string
	Found spec.Diagnostics
}

// Top is the file's content, nil when it is empty or no YAML.
func (r *Reader) Top(text []byte) *yaml.Node {
	var document yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	return document.Content[0]
}

// yaml.v3 has the position of a syntax error in its text only.
var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

func (r *Reader) syntax(err error) {
	d := spec.Diagnostic{Severity: spec.Error, File: r.File, Summary: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		d.Line, _ = strconv.Atoi(m[1])
		d.Column, d.Summary = 1, m[2]
	}
	r.Found = append(r.Found, d)
}

// Refuse adds a finding.
func (r *Reader) Refuse(n *yaml.Node, path, summary, remedy string) {
	r.Found = append(r.Found, spec.Diagnostic{
		Severity: spec.Error, File: r.File, Line: n.Line, Column: n.Column, Path: path, Summary: summary, Remedy: remedy,
	})
}

// Unknown refuses a key that is none of those known.
func (r *Reader) Unknown(key *yaml.Node, path string, known []string) {
	slices.Sort(known)
	remedy := "known keys: " + strings.Join(known, ", ")
	if near := spec.Closest(key.Value, known); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	}
	r.Refuse(key, path, "unknown key", remedy)
}

// Pairs hands each key of a mapping to f, with its path and value. A key that comes twice is refused.
func (r *Reader) Pairs(n *yaml.Node, path string, f func(key *yaml.Node, path string, value *yaml.Node)) {
	n = Resolve(n)
	if IsNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.Refuse(n, path, "not a mapping", "write it as key: value")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := Resolve(n.Content[i])
		full := key.Value
		if path != "" {
			full = path + "." + key.Value
		}
		if seen[key.Value] {
			r.Refuse(key, full, "given twice", "remove one of them")
			continue
		}
		seen[key.Value] = true
		f(key, full, n.Content[i+1])
	}
}

// List hands each item of a list to f, with its path.
func (r *Reader) List(n *yaml.Node, path string, f func(i int, path string, item *yaml.Node)) {
	n = Resolve(n)
	if IsNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.Refuse(n, path, "not a list", "write it as [a, b]")
		return
	}
	for i, item := range n.Content {
		f(i, fmt.Sprintf("%s[%d]", path, i), item)
	}
}

// Text is a single value as it was written; "" when it is none, which is refused.
func (r *Reader) Text(n *yaml.Node, path string) string {
	n = Resolve(n)
	if n.Kind != yaml.ScalarNode {
		r.Refuse(n, path, "not a single value", "")
		return ""
	}
	return n.Value
}

// Resolve follows an alias to what it stands for. An alias can't stand for another one.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// IsNull tells whether nothing is given.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
