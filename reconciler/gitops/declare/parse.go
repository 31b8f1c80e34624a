package declare

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec/strictyaml"
)

// DefaultPath of the declared file.
const DefaultPath = "/etc/stack/gitops.yaml"

// Path is the declared file that applies: STACK_GITOPS, or gitops.yaml beside STACK_CONFIG, or DefaultPath.
func Path() string {
	if path := os.Getenv("STACK_GITOPS"); path != "" {
		return path
	}
	if config := os.Getenv("STACK_CONFIG"); config != "" {
		return filepath.Join(filepath.Dir(config), "gitops.yaml")
	}
	return DefaultPath
}

// Load reads the declared file; one that is absent declares nothing. Errors about its content are spec.Diagnostics.
func Load(path string) (File, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, nil
	}
	if err != nil {
		return File{}, fmt.Errorf("gitops file: %w", err)
	}
	return Parse(path, text)
}

// Parse reads a declared file. All findings come at once, with positions.
func Parse(file string, text []byte) (File, error) {
	p := &parser{Reader: strictyaml.Reader{File: file}, at: map[string]*yaml.Node{}}
	var out File
	if top := p.Top(text); top != nil {
		p.value(top, "", reflect.ValueOf(&out).Elem())
	}
	if len(p.Found) == 0 {
		p.check(&out)
	}
	if len(p.Found) > 0 {
		return File{}, p.Found
	}
	return out, nil
}

// parser fills the types from nodes.
type parser struct {
	strictyaml.Reader
	at map[string]*yaml.Node // where each path was written
}

func (p *parser) check(f *File) {
	var ps Problems
	if f.Listen != "" {
		if _, _, err := net.SplitHostPort(f.Listen); err != nil {
			ps.add("listen", "write it as 127.0.0.1:9180", "%q is not an address", f.Listen)
		}
	}
	for i, key := range f.AgeKeys {
		checkHostFile(&ps, fmt.Sprintf("ageKeys[%d]", i), key)
	}
	for i, n := range f.Notify {
		n.check(fmt.Sprintf("notify[%d]", i), &ps)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Repositories)) {
		r := f.Repositories[name]
		r.Name = name
		f.Repositories[name] = r
		for _, problem := range r.Check() {
			problem.Path = strings.TrimSuffix("repositories."+name+"."+problem.Path, ".")
			ps = append(ps, problem)
		}
		for _, other := range r.DependsOn {
			if _, ok := f.Repositories[other]; !ok {
				ps.add("repositories."+name+".dependsOn", "", "no repository is called %q here", other)
			}
		}
		if chain := cycle(f.Repositories, name, nil); chain != nil {
			ps.add("repositories."+name+".dependsOn", "", "%s wait for each other", strings.Join(chain, " and "))
		}
	}
	for _, problem := range ps {
		p.Refuse(p.nearest(problem.Path), problem.Path, problem.Summary, problem.Remedy)
	}
}

// cycle is a way from name back to itself, nil where there is none.
func cycle(all map[string]Repository, name string, way []string) []string {
	if len(way) > 0 && way[0] == name {
		return way
	}
	if slices.Contains(way, name) {
		return nil
	}
	for _, next := range all[name].DependsOn {
		if found := cycle(all, next, append(slices.Clone(way), name)); found != nil {
			return found
		}
	}
	return nil
}

// nearest is the node of a path, or of what it is in.
func (p *parser) nearest(path string) *yaml.Node {
	for path != "" {
		if n, ok := p.at[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return &yaml.Node{Line: 1, Column: 1}
}

// value fills v from a node, by v's type.
func (p *parser) value(n *yaml.Node, path string, v reflect.Value) {
	if n = strictyaml.Resolve(n); strictyaml.IsNull(n) {
		return
	}
	switch t := v.Interface().(type) {
	case Ref:
		if n.Kind == yaml.ScalarNode { // the short form
			v = v.FieldByName("Branch")
		}
	case Duration:
		if err := t.UnmarshalText([]byte(n.Value)); err != nil || n.Kind != yaml.ScalarNode {
			p.Refuse(n, path, "not a duration", "write it as 90s or 5m")
		}
		v.Set(reflect.ValueOf(t))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		p.value(n, path, v.Elem())
	case reflect.Struct:
		p.mapping(n, path, v)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		p.pairs(n, path, func(key *yaml.Node, path string, value *yaml.Node) {
			element := reflect.New(v.Type().Elem()).Elem()
			p.value(value, path, element)
			v.SetMapIndex(reflect.ValueOf(key.Value), element)
		})
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		p.List(n, path, func(i int, path string, item *yaml.Node) {
			p.at[path] = item
			p.value(item, path, v.Index(i))
		})
	default:
		p.scalar(n, path, v)
	}
}

func (p *parser) scalar(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		p.Text(n, path) // refuses it
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		value, err := strconv.ParseBool(n.Value)
		if err != nil {
			p.Refuse(n, path, "not a boolean", "write true or false")
		}
		v.SetBool(value)
	case reflect.Int64: // all numbers here are sizes
		value, err := size(n.Value)
		if err != nil {
			p.Refuse(n, path, "not a size", "write it as 256m")
		}
		v.SetInt(value)
	default:
		panic(fmt.Sprintf("declare: %s is of type %s", path, v.Type()))
	}
}

// mapping fills a struct; unknown keys are refused.
func (p *parser) mapping(n *yaml.Node, path string, v reflect.Value) {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("yaml"); name != "-" {
			fields[name] = v.Field(i)
		}
	}
	p.pairs(n, path, func(key *yaml.Node, path string, value *yaml.Node) {
		if field, ok := fields[key.Value]; ok {
			p.value(value, path, field)
			return
		}
		p.Unknown(key, path, slices.Collect(maps.Keys(fields)))
	})
}

// pairs is Pairs, and remembers where each was written.
func (p *parser) pairs(n *yaml.Node, path string, f func(key *yaml.Node, path string, value *yaml.Node)) {
	p.Pairs(n, path, func(key *yaml.Node, path string, value *yaml.Node) {
		p.at[path] = key
		f(key, path, value)
	})
}
