package load

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// sections are the top-level mappings of resources, which an include brings in.
var sections = []string{"services", "jobs", "volumes", "networks", "secrets", "configs", "models"}

// assembler puts the files together: for each, what it includes, then what its services extend, then the merge with
// the files before it. This is compose-go's order.
type assembler struct {
	tree *tree
	// parsed files by name and directory: a file extended by many services is read once.
	parsed map[string]*node
}

// parseTree reads all the files that take part. What can't be read is kept as a finding: compose-go fails on it, too,
// and explain tells what the tree knows.
func parseTree(src *source) *tree {
	a := &assembler{tree: &tree{}, parsed: map[string]*node{}}
	env := src.env.Clone()
	if _, ok := env[projectNameVariable]; !ok {
		env[projectNameVariable] = src.name // as compose-go does
	}
	for _, f := range src.files {
		own := &file{name: f.name, dir: src.dir, env: env}
		a.tree.named = append(a.tree.named, own)
		a.tree.root = a.add(a.tree.root, own, f.content, []string{f.name})
	}
	if a.tree.root == nil {
		a.tree.root = &node{kind: mapping, fields: map[string]*node{}}
	}
	return a.tree
}

// add merges a file's documents over what the files before it say. The chain is of the files being included.
func (a *assembler) add(base *node, f *file, content []byte, chain []string) *node {
	documents, findings := a.tree.parseFile(f, content)
	a.tree.findings = append(a.tree.findings, findings...)
	for _, doc := range documents {
		doc = a.include(doc, chain)
		doc = a.extend(doc)
		base = merge(base, doc, nil)
	}
	return base
}

// include lays a document over the resources of the files it includes.
func (a *assembler) include(doc *node, chain []string) *node {
	list := doc.field("include")
	if list == nil || list.kind != sequence {
		return doc
	}
	var included *node
	for i, entry := range list.items {
		included = merge(included, a.included(entry, []string{"include", fmt.Sprint(i)}, chain), nil)
	}
	if included == nil {
		return doc
	}
	resources := &node{kind: mapping, file: doc.file, fields: map[string]*node{}}
	for _, section := range sections {
		if s := included.field(section); s != nil {
			resources.add(section, s)
		}
	}
	return mergeFields(resources, doc, nil)
}

// included reads one entry of `include`: a path, or a mapping with one or several, the first deciding the directory.
func (a *assembler) included(entry *node, path, chain []string) *node {
	paths := entry.texts()
	if entry.kind == mapping {
		paths = entry.field("path").texts()
	}
	if len(paths) == 0 {
		return nil
	}
	paths = absolute(entry.file.dir, paths)
	dir := filepath.Dir(paths[0])
	if d := entry.field("project_directory").texts(); len(d) == 1 {
		dir = absolute(entry.file.dir, d)[0]
	}
	own := &file{dir: dir, env: a.includedEnv(entry, dir, path)}
	var merged *node
	for _, name := range paths {
		if slices.Contains(chain, name) {
			a.tree.findings = append(a.tree.findings, entry.diagnose(spec.Error, path,
				"the files include each other in a circle: "+strings.Join(append(slices.Clone(chain), name), " -> "), ""))
			return merged
		}
		content, ok := a.readFile(entry, path, name)
		if !ok {
			continue
		}
		f := *own
		f.name = name
		merged = a.add(merged, &f, content, append(slices.Clone(chain), name))
	}
	return merged
}

// includedEnv is the environment of the including file and, below it, what the env files of the include say.
func (a *assembler) includedEnv(entry *node, dir string, path []string) types.Mapping {
	var files []string
	if given := entry.field("env_file").texts(); len(given) > 0 {
		files = slices.DeleteFunc(absolute(entry.file.dir, given), func(f string) bool { return f == os.DevNull })
	} else {
		dotEnv := filepath.Join(dir, ".env")
		a.tree.read = append(a.tree.read, dotEnv)
		if info, err := os.Stat(dotEnv); err == nil && !info.IsDir() {
			files = []string{dotEnv}
		}
	}
	a.tree.read = append(a.tree.read, files...)
	env := entry.file.env.Clone()
	values, err := dotenv.GetEnvFromFile(env, files)
	if err != nil {
		a.tree.findings = append(a.tree.findings, entry.at("env_file").diagnose(spec.Error, join(path, "env_file"), err.Error(), ""))
	}
	return env.Merge(values)
}

func (a *assembler) readFile(at *node, path []string, name string) ([]byte, bool) {
	a.tree.read = append(a.tree.read, name)
	content, err := os.ReadFile(name)
	if err != nil {
		a.tree.findings = append(a.tree.findings, at.diagnose(spec.Error, path, fmt.Sprintf("can't read %s: %s", name, cause(err)), ""))
		return nil, false
	}
	return content, true
}

// extend gives each service what it extends.
func (a *assembler) extend(doc *node) *node {
	services := doc.field("services")
	if services == nil || services.kind != mapping {
		return doc
	}
	extended := *services
	extended.fields = make(map[string]*node, len(services.fields))
	changed := false
	for _, name := range services.order {
		service := services.fields[name]
		if service.field("extends") != nil {
			service = a.extended(service, name, services, nil)
			changed = true
		}
		extended.fields[name] = service
	}
	if !changed {
		return doc
	}
	d := *doc
	d.fields = make(map[string]*node, len(doc.fields))
	for name, value := range doc.fields {
		d.fields[name] = value
	}
	d.fields["services"] = &extended
	return &d
}

// extended is a service over what it extends, at any number of removes. The chain is of the services on the way.
func (a *assembler) extended(service *node, name string, services *node, chain []string) *node {
	extends := service.field("extends")
	if extends == nil {
		return service
	}
	path := []string{"services", name, "extends"}
	ref, from := extends.texts(), services
	if extends.kind == mapping {
		ref = extends.field("service").texts()
		if files := extends.field("file").texts(); len(files) == 1 {
			if from = a.servicesOf(extends, absolute(extends.file.dir, files)[0], path); from == nil {
				return service
			}
		}
	}
	if len(ref) != 1 {
		return service
	}
	step := service.file.name + "#" + name
	if slices.Contains(chain, step) {
		a.tree.findings = append(a.tree.findings, extends.diagnose(spec.Error, path, "the services extend each other in a circle", ""))
		return service
	}
	base := from.field(ref[0])
	if base == nil {
		a.tree.findings = append(a.tree.findings, extends.diagnose(spec.Error, path,
			fmt.Sprintf("the service %q that is extended does not exist", ref[0]), didYouMean(ref[0], from.order)))
		return service
	}
	base = a.extended(base, ref[0], from, append(slices.Clone(chain), step))
	if base.kind != mapping || service.kind != mapping {
		return service
	}
	return mergeFields(base, service, []string{"services", name})
}

func didYouMean(word string, candidates []string) string {
	if c := spec.Closest(word, candidates); c != "" {
		return fmt.Sprintf("did you mean %q?", c)
	}
	return ""
}

// servicesOf reads the services of a file named by extends, nil if there are none.
func (a *assembler) servicesOf(extends *node, name string, path []string) *node {
	if doc, ok := a.parsed[name]; ok {
		return doc.field("services")
	}
	a.parsed[name] = nil
	content, ok := a.readFile(extends.at("file"), join(path, "file"), name)
	if !ok {
		return nil
	}
	f := &file{name: name, dir: filepath.Dir(name), env: extends.file.env}
	documents, findings := a.tree.parseFile(f, content)
	a.tree.findings = append(a.tree.findings, findings...)
	var merged *node
	for _, doc := range documents {
		merged = merge(merged, doc, nil)
	}
	a.parsed[name] = merged
	return merged.field("services")
}

// texts are the interpolated scalars of a value that is one or a list of them.
func (n *node) texts() []string {
	if n == nil {
		return nil
	}
	switch n.kind {
	case scalar:
		text, err := n.interpolated()
		if err != nil {
			return nil
		}
		return []string{text}
	case sequence:
		var all []string
		for _, item := range n.items {
			if item.kind == scalar {
				all = append(all, item.texts()...)
			}
		}
		return all
	}
	return nil
}

// interpolated is the scalar with its variables replaced. The error is compose-go's.
func (n *node) interpolated() (string, error) {
	if !strings.Contains(n.text, "$") {
		return n.text, nil
	}
	return template.Substitute(n.text, func(name string) (string, bool) {
		value, ok := n.file.env[name]
		return value, ok
	})
}
