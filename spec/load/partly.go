package load

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/cache"
)

// earlier is a load of the same files, in the same environment, before they were changed.
type earlier struct {
	*cache.Found                // nil if there was none
	written      *cache.Written // what the files say now
}

// partly loads the services that have changed since an earlier load, and takes the others from there: compose-go works on each
// service for itself, as long as nothing entangles them. What has changed goes through compose-go with all it refers to.
//
// Whatever does not fit is left to a whole load, and so are all errors, since only that one knows all. It returns nil then.
func (src *source) partly(ctx context.Context, o Options, files *tree, h *hearing, started time.Time) *Result {
	if src.earlier == nil || src.earlier.Found == nil || src.earlier.Written == nil {
		return nil
	}
	changed := src.changed(o, files)
	if changed == nil {
		return nil
	}
	whole := src.earlier.Entry()
	if whole == nil || !slices.Equal(whole.Stack.Files, src.paths()) {
		return nil
	}
	stays := files.closure(changed, whole.Stack)
	if len(stays) == len(src.earlier.written.Services) {
		return nil // nothing to save
	}
	part := src.cut(files, stays)
	if part == nil {
		return nil
	}
	project, stack := part.stack(ctx, o, files, h)
	if stack == nil || !src.join(project, stack, whole.Stack, files, o, changed) {
		return nil
	}
	stack.Files = src.paths()
	src.unsupported = part.unsupported
	findings := files.check(src, func(string) bool { return true })
	if findings.HasErrors() {
		return nil
	}
	src.inputs.add(src.earlier.Files...)
	return &Result{
		Stack:    stack,
		Warnings: sorted(findings),
		Inputs:   src.inputs.list(project, files),
		Started:  started,
		written:  src.earlier.written,
	}
}

// changed are the services that are new or not as they were, nil if there is more to it.
func (src *source) changed(o Options, files *tree) map[string]bool {
	then, now := src.earlier.Written, files.written()
	if now == nil || len(now.Services) == 0 || now.Rest != then.Rest {
		return nil
	}
	for _, file := range src.earlier.Changed {
		if !slices.Contains(src.paths(), file) {
			return nil
		}
	}
	for _, name := range o.Services {
		if now.Services[name] == "" {
			return nil
		}
	}
	for name := range then.Services {
		if now.Services[name] == "" {
			return nil // others may refer to what is gone
		}
	}
	src.earlier.written = now
	changed := map[string]bool{}
	for name, said := range now.Services {
		if said != then.Services[name] {
			changed[name] = true
		}
	}
	return changed
}

// closure are services with all that they refer to, directly or not. What has not changed is known from the stack.
func (t *tree) closure(changed map[string]bool, known *spec.Stack) map[string]bool {
	all := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if all[name] {
			return
		}
		all[name] = true
		if s := known.Services[name]; s != nil && !changed[name] {
			for dep := range s.ServiceDependencies() {
				add(dep)
			}
			return
		}
		for _, ref := range t.root.get("services", name).services() {
			add(ref)
		}
	}
	for name := range changed {
		add(name)
	}
	// Nothing but comments or positions may have changed: without any service there is no project.
	if services := t.root.field("services"); len(all) == 0 && services != nil && len(services.order) > 0 {
		add(slices.Min(services.order))
	}
	return all
}

// services are those that a service refers to. One that is missed here is found missing by compose-go.
func (n *node) services() []string {
	var all []string
	for _, dep := range keys(n.field("depends_on")) {
		all = append(all, dep.name)
	}
	for _, attribute := range []string{"links", "volumes_from"} {
		for _, ref := range keys(n.field(attribute)) {
			service, _, _ := strings.Cut(ref.name, ":")
			all = append(all, service)
		}
	}
	for _, attribute := range []string{"network_mode", "pid", "ipc", "uts", "cgroup"} {
		for _, text := range n.field(attribute).texts() {
			if service, ok := strings.CutPrefix(text, "service:"); ok {
				all = append(all, service)
			}
		}
	}
	return all
}

// cut is the source with some services only, nil if their text can't be told from that of the others: then what is left says
// something else of them.
func (src *source) cut(files *tree, stays map[string]bool) *source {
	part := *src
	part.files, part.earlier, part.inputs = nil, nil, inputs{}
	for i, f := range files.named {
		part.files = append(part.files, sourceFile{f.name, cut(f, src.files[i].content, stays)})
	}
	left := parseTree(&part)
	part.keys = left.keys
	if left.findings.HasErrors() {
		return nil
	}
	now := src.earlier.written
	want := &cache.Written{Rest: now.Rest, Services: map[string]string{}}
	for name := range stays {
		if now.Services[name] != "" {
			want.Services[name] = now.Services[name]
		}
	}
	if !reflect.DeepEqual(left.written(), want) {
		return nil
	}
	for i, f := range slices.Backward(left.named) {
		if len(f.documents) == 0 { // it was about other services; to compose-go an empty file is a mistake
			part.files = slices.Delete(part.files, i, i+1)
		}
	}
	return &part
}

// stack goes the way of load for a part whose tree is that of the whole, nil if there is anything to tell.
func (src *source) stack(ctx context.Context, o Options, files *tree, h *hearing) (*types.Project, *spec.Stack) {
	project, err := src.compose(ctx, projectOptions{})
	if err != nil {
		return nil, nil
	}
	findings := h.heard().diagnostics(files)
	project = project.WithoutUnresolvedOptionalDependencies() // as enable does
	if project, err = resolveFiles(project, files, o, &findings); err != nil {
		return nil, nil
	}
	stack := convert(project, files, o, &findings)
	if len(findings) > 0 || !usesAll(stack) {
		return nil, nil
	}
	return project, stack
}

// join completes the part by what the whole had and is as it was. It fails if the two contradict each other.
func (src *source) join(project *types.Project, part, whole *spec.Stack, files *tree, o Options, changed map[string]bool) bool {
	var findings spec.Diagnostics
	c := &converter{project: project, tree: files, options: o, findings: &findings, stack: part}
	for name, s := range whole.Services {
		if changed[name] {
			continue
		}
		c.restate(s)
		if again := part.Services[name]; again != nil && !same(again, s) {
			return false
		}
		part.Services[name] = s
	}
	for _, ok := range []bool{
		complete(part.Networks, whole.Networks), complete(part.Volumes, whole.Volumes),
		complete(part.Secrets, whole.Secrets), complete(part.Configs, whole.Configs),
	} {
		if !ok {
			return false
		}
	}
	part.Prune()
	c.sharedPorts()
	c.sharedNames()
	return len(findings) == 0 && len(part.Services) == len(src.earlier.written.Services)
}

// complete adds the resources that the part does not use. Those that it does are the same.
func complete[T any](part, whole map[string]*T) bool {
	for key, resource := range whole {
		if again := part[key]; again != nil && !same(again, resource) {
			return false
		}
		part[key] = resource
	}
	return true
}

// same compares what would be kept.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// restate says where a service stands now.
func (c *converter) restate(s *spec.Service) {
	at := []string{"services", s.Name}
	s.Position = c.position(at)
	if s.Develop == nil {
		return
	}
	for i := range s.Develop.Watch {
		s.Develop.Watch[i].Position = c.position(join(at, "develop", "watch", strconv.Itoa(i), "action"))
	}
}

// note keeps what the files say with a whole load that partly may build on: services had nothing to tell of, and what
// they use is known from the stack.
func (src *source) note(result *Result, files *tree, o Options, plain bool) {
	if src.earlier == nil || !plain || o.AllResources || !usesAll(result.Stack) {
		return
	}
	if src.earlier.written == nil {
		src.earlier.written = files.written()
	}
	result.written = src.earlier.written
}

// usesAll tells whether the stack's own idea of what its services use is that of compose-go, which has dropped the rest.
func usesAll(stack *spec.Stack) bool {
	pruned := *stack
	pruned.Prune()
	return maps.Equal(pruned.Networks, stack.Networks) && maps.Equal(pruned.Volumes, stack.Volumes) &&
		maps.Equal(pruned.Secrets, stack.Secrets) && maps.Equal(pruned.Configs, stack.Configs)
}
