package load

import (
	"errors"
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"

	"github.com/stack-run/stack/spec"
)

// references finds names of services, networks, volumes, secrets and configs that nothing has, services without an
// image, and circles of dependencies. Like the value checks it runs when a load failed.
func (t *tree) references(enabled func(service string) bool, observing bool) spec.Diagnostics {
	r := &referrer{tree: t, enabled: enabled, observing: observing}
	services := t.root.field("services")
	if services == nil || services.kind == null || services.kind == mapping && len(services.order) == 0 {
		return spec.Diagnostics{t.root.diagnose(spec.Error, []string{"services"}, "the files define no service", "")}
	}
	for _, name := range services.order {
		if enabled(name) && services.fields[name].kind == mapping {
			r.service(name, services.fields[name])
		}
	}
	r.circles(services)
	r.files()
	return r.findings
}

type referrer struct {
	tree      *tree
	enabled   func(service string) bool
	observing bool
	findings  spec.Diagnostics
}

func (r *referrer) report(n *node, path []string, remedy, format string, args ...any) {
	r.findings = append(r.findings, n.diagnose(spec.Error, path, fmt.Sprintf(format, args...), remedy))
}

func (r *referrer) service(name string, s *node) {
	at := []string{"services", name}
	if text := s.field("image").texts(); len(text) == 1 && text[0] == "" {
		r.report(s.field("image"), join(at, "image"), "set the variable it is made of", "the image is empty")
	} else if s.field("image") == nil && s.field("build") == nil && s.field("provider") == nil {
		r.report(s, at, "give it an image", "the service has no image")
	}
	if mode, networks := s.field("network_mode"), s.field("networks"); mode != nil && networks != nil {
		r.report(mode, join(at, "network_mode"), "keep one of the two", "network_mode and networks can't go together")
	}
	for _, dep := range keys(s.field("depends_on")) {
		required := dep.node.field("required").texts()
		optional := len(required) == 1 && required[0] == "false"
		if known := r.tree.root.get("services", dep.name) != nil; known && optional {
			continue // it may be disabled, but not be unknown
		}
		r.needs(dep, join(at, "depends_on"), "services", "service")
	}
	for _, attribute := range []string{"network_mode", "pid", "ipc"} {
		n := s.field(attribute)
		for _, text := range n.texts() {
			if service, ok := strings.CutPrefix(text, "service:"); ok {
				r.needs(named{service, n}, join(at, attribute), "services", "service")
			}
		}
	}
	for _, link := range keys(s.field("links")) {
		link.name, _, _ = strings.Cut(link.name, ":")
		r.needs(link, join(at, "links"), "services", "service")
	}
	for _, from := range keys(s.field("volumes_from")) {
		if !strings.HasPrefix(from.name, "container:") {
			from.name, _, _ = strings.Cut(from.name, ":")
			r.needs(from, join(at, "volumes_from"), "services", "service")
		}
	}
	for _, network := range keys(s.field("networks")) {
		if network.name != "default" {
			r.needs(network, join(at, "networks"), "networks", "network")
		}
	}
	for _, v := range volumeSources(s.field("volumes")) {
		r.needs(v, join(at, "volumes"), "volumes", "volume")
	}
	for _, section := range []string{"secrets", "configs"} {
		for _, f := range entries(s.field(section), "source") {
			r.needs(f, join(at, section), section, strings.TrimSuffix(section, "s"))
		}
	}
	for _, attribute := range []string{"env_file", "label_file"} {
		for _, f := range entries(s.field(attribute), "path") {
			r.readable(f, join(at, attribute))
		}
	}
}

// named is a name and where it stands.
type named struct {
	name string
	node *node
}

// keys are the names in a mapping or in its list form.
func keys(n *node) []named {
	if n == nil {
		return nil
	}
	var all []named
	for _, name := range n.order {
		all = append(all, named{name, n.fields[name]})
	}
	for _, item := range n.items {
		for _, text := range item.texts() {
			all = append(all, named{text, item})
		}
	}
	return all
}

// entries are the names in a list whose entries are names or mappings with the name in a field; or just one name.
func entries(n *node, field string) []named {
	if n == nil {
		return nil
	}
	items := n.items
	if n.kind == scalar {
		items = []*node{n}
	}
	var all []named
	for _, item := range items {
		if required := item.field("required").texts(); len(required) == 1 && required[0] == "false" {
			continue
		}
		name := item
		if item.kind == mapping {
			name = item.field(field)
		}
		if text := name.texts(); len(text) == 1 {
			all = append(all, named{text[0], item})
		}
	}
	return all
}

// volumeSources are the named volumes among the mounts of a service.
func volumeSources(n *node) []named {
	if n == nil {
		return nil
	}
	var all []named
	for _, item := range n.items {
		if item.kind == mapping {
			kind, source := item.field("type").texts(), item.field("source").texts()
			if len(kind) == 1 && kind[0] == spec.MountVolume && len(source) == 1 {
				all = append(all, named{source[0], item})
			}
			continue
		}
		for _, text := range item.texts() {
			if v, err := format.ParseVolume(text); err == nil && v.Type == spec.MountVolume && v.Source != "" {
				all = append(all, named{v.Source, item})
			}
		}
	}
	return all
}

// needs reports a name that its section lacks, or a service that no active profile enables.
func (r *referrer) needs(n named, path []string, section, what string) {
	all := r.tree.root.field(section)
	if all.field(n.name) == nil {
		var names []string
		if all != nil {
			names = all.order
		}
		remedy := didYouMean(n.name, names)
		if remedy == "" {
			remedy = fmt.Sprintf("define it under `%s`", section)
		}
		if section == "volumes" && strings.Contains(n.name, "/") {
			remedy = "begin it with ./ if it is a path"
		}
		r.report(n.node, path, remedy, "there is no %s %q", what, n.name)
		return
	}
	if section == "services" && !r.enabled(n.name) {
		r.report(n.node, path, fmt.Sprintf("activate one of its profiles (%s) with --profile",
			strings.Join(all.field(n.name).field("profiles").texts(), ", ")), "the service %q is not enabled by any active profile", n.name)
	}
}

func (r *referrer) readable(n named, path []string) {
	if n.node.file == nil {
		return
	}
	file := absolute(n.node.file.dir, []string{n.name})[0]
	r.tree.missing(file, path, "file", Options{Observing: r.observing}, &r.findings)
}

// circles reports services that wait for each other, the first circle there is.
func (r *referrer) circles(services *node) {
	graph := map[string]*spec.Service{}
	for _, name := range services.order {
		s := &spec.Service{Name: name, DependsOn: map[string]spec.Dependency{}}
		for _, dep := range keys(services.fields[name].field("depends_on")) {
			s.DependsOn[dep.name] = spec.Dependency{}
		}
		graph[name] = s
	}
	var cycle *spec.CycleError
	if _, err := spec.Order(graph); errors.As(err, &cycle) {
		path := []string{"services", cycle.Path[0], "depends_on"}
		r.report(r.tree.root.at(path...), path, "take one of these dependencies out",
			"the services wait for each other: %s", strings.Join(cycle.Path, " -> "))
	}
}

// files reports secrets and configs that have no content, or several.
func (r *referrer) files() {
	for section, sources := range map[string][]string{
		"secrets": {"file", "environment"},
		"configs": {"file", "environment", "content"},
	} {
		for _, f := range keys(r.tree.root.field(section)) {
			given := 0
			for _, source := range sources {
				if f.node.field(source) != nil {
					given++
				}
			}
			external := f.node.field("external") != nil || f.node.field("driver") != nil
			if given != 1 && !external {
				r.report(f.node, []string{section, f.name}, "give it one of "+strings.Join(sources, ", "),
					"%d sources of the content where there must be one", given)
			}
		}
	}
}
