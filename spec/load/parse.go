package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec"
)

// parser turns the YAML of one document into nodes.
type parser struct {
	file     *file
	findings spec.Diagnostics
	// built are the nodes of anchors, so that an alias costs nothing; nil while the anchor's own value is being built.
	built map[*yaml.Node]*node
	keys  map[string]bool // of mappings, for whoever wants to know what a file can't be about
}

// maxSize is how many values a document may have, those repeated by aliases counted each time. A stack of a thousand
// services has some thirty thousand.
const maxSize = 1_000_000

// parseFile reads the documents of a file; Compose merges several in one file as if they were several files.
func (t *tree) parseFile(f *file, content []byte) ([]*node, spec.Diagnostics) {
	if t.keys == nil {
		t.keys = map[string]bool{}
	}
	p := &parser{file: f, built: map[*yaml.Node]*node{}, keys: t.keys}
	var documents []*node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return documents, p.findings
		}
		if err != nil {
			p.findings = append(p.findings, syntaxError(f.name, content, err))
			return documents, p.findings
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := p.build(doc.Content[0], nil)
		if root.size > maxSize {
			p.findings = append(p.findings, root.diagnose(spec.Error, nil,
				fmt.Sprintf("with its anchors repeated the file has more than %d values", maxSize), ""))
			continue
		}
		if root.kind == mapping {
			documents = append(documents, root)
			f.documents = append(f.documents, doc.Content[0])
		} else if root.kind != null {
			p.findings = append(p.findings, root.diagnose(spec.Error, nil,
				"a stack file is a mapping at its top level", "begin with `services:`"))
		}
	}
}

// yaml.v3 says the line of a syntax error in the text of the error only.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

func syntaxError(name string, content []byte, err error) spec.Diagnostic {
	text := err.Error()
	d := spec.Diagnostic{Severity: spec.Error, File: name}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		d.Line, _ = strconv.Atoi(m[1])
	}
	d.Summary = "not valid YAML: " + text
	if d.Line == 0 {
		d.Line = 1
	}
	d.Column = 1
	if lines := bytes.Split(content, []byte("\n")); d.Line <= len(lines) {
		line := lines[d.Line-1]
		if bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("\t")) {
			d.Remedy = "indent with spaces: YAML allows no tabs there"
		}
		d.Column = len(line) - len(bytes.TrimLeft(line, " \t")) + 1
	}
	return d
}

func (p *parser) build(y *yaml.Node, path []string) *node {
	if y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	if n, ok := p.built[y]; ok {
		if n == nil { // compose-go would go round and round
			p.report(y, path, fmt.Sprintf("the anchor &%s holds itself", y.Anchor), "take the alias out of its value")
			return &node{file: p.file, line: y.Line, column: y.Column}
		}
		return n
	}
	if y.Anchor != "" {
		p.built[y] = nil
	}
	n := &node{
		file: p.file, line: y.Line, column: y.Column, size: 1,
		reset: y.Tag == "!reset", override: y.Tag == "!override",
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = mapping
		p.fields(n, y, path)
	case yaml.SequenceNode:
		n.kind = sequence
		for i, item := range y.Content {
			n.items = append(n.items, p.build(item, join(path, strconv.Itoa(i))))
			n.size = min(n.size+n.items[i].size, maxSize+1)
		}
	case yaml.ScalarNode:
		if y.ShortTag() != "!!null" {
			n.kind, n.text, n.tag = scalar, y.Value, y.ShortTag()
		}
	}
	if y.Anchor != "" {
		p.built[y] = n
	}
	return n
}

// fields fills a mapping. What `<<` merges in counts less than what stands there itself.
func (p *parser) fields(n *node, y *yaml.Node, path []string) {
	n.fields = make(map[string]*node, len(y.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			p.report(key, path, "a key must be a plain word", "")
			continue
		}
		if first, ok := n.fields[key.Value]; ok {
			p.report(key, join(path, key.Value), fmt.Sprintf("the key %q is defined twice, first in line %d", key.Value, first.line),
				"keep one of the two")
			continue
		}
		p.keys[key.Value] = true
		n.add(key.Value, located(p.build(value, join(path, key.Value)), p.file, key))
	}
	for _, value := range merged {
		base := p.build(value, path)
		bases := []*node{base}
		if base.kind == sequence {
			bases = base.items
		}
		for _, b := range bases {
			for _, name := range b.order {
				if _, ok := n.fields[name]; !ok {
					n.add(name, b.fields[name])
				}
			}
		}
	}
}

// located is a value at the place of its key. The value may be shared by aliases, so it is copied.
func located(n *node, f *file, key *yaml.Node) *node {
	c := *n
	c.file, c.line, c.column = f, key.Line, key.Column
	return &c
}

func (n *node) add(name string, value *node) {
	n.size = min(n.size+value.size, maxSize+1)
	if _, ok := n.fields[name]; !ok {
		n.order = append(n.order, name)
	}
	n.fields[name] = value
}

func (p *parser) report(y *yaml.Node, path []string, summary, remedy string) {
	p.findings = append(p.findings, spec.Diagnostic{
		Severity: spec.Error, File: p.file.name, Line: y.Line, Column: y.Column,
		Path: pathString(path), Summary: summary, Remedy: remedy,
	})
}

// words are the parts of a scalar that name a variable: $NAME, ${NAME...}.
func (n *node) mentions(variable string) bool {
	rest := n.text
	for {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
		if strings.HasPrefix(rest, "$") { // escaped
			rest = rest[1:]
			continue
		}
		if name, ok := strings.CutPrefix(strings.TrimPrefix(rest, "{"), variable); ok && (name == "" || !wordByte(name[0])) {
			return true
		}
	}
}

func wordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}
