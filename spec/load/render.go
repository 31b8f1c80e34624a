package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec"
)

// RenderOptions are those of `config` that decide how the resolved project is written.
type RenderOptions struct {
	Format           string // yaml (also when empty) or json
	NoInterpolate    bool
	NoNormalize      bool
	NoPathResolution bool
	NoConsistency    bool
	NoEnvResolution  bool
	// ResolveDigest, unless nil, is asked for the digest ("sha256:...") of each image, which then pins the image. It is
	// called from several goroutines at once.
	ResolveDigest func(ctx context.Context, ref string) (string, error)
	// LockDigests leaves nothing but the images with their digests: a file to override others with.
	LockDigests bool
}

// Render writes the resolved project as `docker compose config` does, with the services that Options name and what they
// depend on, or all. Warnings are those of the load.
func Render(ctx context.Context, o Options, r RenderOptions) ([]byte, spec.Diagnostics, error) {
	if r.Format != "" && r.Format != "yaml" && r.Format != "json" {
		return nil, nil, fail("use yaml or json", "unknown format %q", r.Format)
	}
	o.Observing = true
	src, err := discover(o)
	if err != nil {
		return nil, nil, err
	}
	if r.NoInterpolate {
		return src.renderModel(ctx, r)
	}
	steps := projectOptions{noNormalize: r.NoNormalize, noPathResolution: r.NoPathResolution, noConsistency: r.NoConsistency}
	if steps != (projectOptions{}) || r.NoEnvResolution {
		return src.renderPartly(ctx, o, r, steps)
	}
	result, err := src.load(ctx, o, time.Now())
	if err != nil {
		return nil, nil, err
	}
	out, err := write(ctx, result.project, o, r)
	return out, result.Warnings, err
}

// renderPartly leaves out steps without which there is no stack: what is written is checked all the same.
func (src *source) renderPartly(ctx context.Context, o Options, r RenderOptions, steps projectOptions) ([]byte, spec.Diagnostics, error) {
	hearing := listen()
	defer hearing.stop()
	files := parseTree(src)
	if files.findings.HasErrors() {
		return nil, nil, files.explain(ctx, src, nil, nil)
	}
	project, err := src.compose(ctx, steps)
	notes := hearing.heard()
	if err != nil {
		return nil, nil, files.explain(ctx, src, err, notes)
	}
	if project, err = enable(project, o.Services); err != nil {
		return nil, nil, fail("", "%v", err)
	}
	findings := append(files.check(src, isEnabled(project)), notes.diagnostics(files)...)
	if findings.HasErrors() {
		return nil, nil, sorted(findings)
	}
	switch {
	case !r.NoEnvResolution:
		if project, err = resolveFiles(project, files, o, &findings); err != nil {
			return nil, nil, append(findings, files.explain(ctx, src, err, nil)...)
		}
	case !o.AllResources:
		project = project.WithoutUnnecessaryResources()
	}
	out, err := write(ctx, project, o, r)
	return out, sorted(findings), err
}

// renderModel writes what the files say with the variables in it.
func (src *source) renderModel(ctx context.Context, r RenderOptions) ([]byte, spec.Diagnostics, error) {
	model, findings, err := src.model(ctx, projectOptions{
		noInterpolate: true, noNormalize: r.NoNormalize, noPathResolution: r.NoPathResolution, noConsistency: r.NoConsistency,
	})
	if err != nil {
		return nil, nil, err
	}
	if findings.HasErrors() {
		return nil, nil, findings
	}
	if r.Format == "json" {
		out, err := json.MarshalIndent(model, "", "  ")
		return append(out, '\n'), findings, err
	}
	out, err := encodeYAML(model)
	return out, findings, err
}

// model is compose-go's merged tree, for what needs no project.
func (src *source) model(ctx context.Context, steps projectOptions) (map[string]any, spec.Diagnostics, error) {
	hearing := listen()
	defer hearing.stop()
	files := parseTree(src)
	if files.findings.HasErrors() {
		return nil, nil, files.explain(ctx, src, nil, nil)
	}
	model, err := loader.LoadModelWithContext(ctx, src.details(), src.loaderOptions(steps))
	if err != nil {
		return nil, nil, files.explain(ctx, src, err, nil)
	}
	active := files.active(src)
	findings := append(spec.Diagnostics(nil), src.warnings...)
	findings = append(findings, files.attributes(func(service string) bool { return active[service] })...)
	return model, sorted(findings), nil
}

func write(ctx context.Context, project *types.Project, o Options, r RenderOptions) ([]byte, error) {
	project, err := project.WithSelectedServices(o.Services)
	if err != nil {
		return nil, fmt.Errorf("select services: %w", err)
	}
	if len(o.Services) > 0 && !o.AllResources {
		project = project.WithoutUnnecessaryResources()
	}
	if !r.NoEnvResolution {
		for name, s := range project.Services {
			s.EnvFiles = nil // they are in the environment now
			project.Services[name] = s
		}
	}
	if r.ResolveDigest != nil {
		if project, err = pin(ctx, project, r.ResolveDigest); err != nil {
			return nil, err
		}
	}
	if r.LockDigests {
		project = imagesOnly(project)
	}
	var out []byte
	if r.Format == "json" {
		out, err = project.MarshalJSON()
		out = append(out, '\n')
	} else {
		out, err = project.MarshalYAML()
	}
	if err != nil {
		return nil, fmt.Errorf("write the project: %w", err)
	}
	// What comes out can go in again: a dollar sign that is left stands for itself.
	return bytes.ReplaceAll(out, []byte("$"), []byte("$$")), nil
}

func pin(ctx context.Context, project *types.Project, resolve func(context.Context, string) (string, error)) (*types.Project, error) {
	return project.WithImagesResolved(func(named reference.Named) (digest.Digest, error) {
		d, err := resolve(ctx, named.String())
		if err != nil {
			return "", fmt.Errorf("resolve the digest of %s: %w", named, err)
		}
		return digest.Parse(d)
	})
}

func imagesOnly(project *types.Project) *types.Project {
	only := &types.Project{Services: types.Services{}}
	for name, s := range project.Services {
		if s.Image != "" {
			only.Services[name] = types.ServiceConfig{ContainerSpec: types.ContainerSpec{Image: s.Image}}
		}
	}
	return only
}

func encodeYAML(v any) ([]byte, error) {
	var buf bytes.Buffer
	encoder := yaml.NewEncoder(&buf)
	encoder.SetIndent(2)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("write the project: %w", err)
	}
	return buf.Bytes(), nil
}

// Variable is one that the stack files use.
type Variable struct {
	Name      string
	Required  bool
	Default   string
	Alternate string // used when the variable is set
}

// Variables lists the variables that the files use, sorted by name.
func Variables(ctx context.Context, o Options) ([]Variable, error) {
	src, err := discover(o)
	if err != nil {
		return nil, err
	}
	model, _, err := src.model(ctx, projectOptions{noInterpolate: true, noPathResolution: true})
	if err != nil {
		return nil, err
	}
	var all []Variable
	for _, v := range template.ExtractVariables(model, template.DefaultPattern) {
		all = append(all, Variable{Name: v.Name, Required: v.Required, Default: v.DefaultValue, Alternate: v.PresenceValue})
	}
	slices.SortFunc(all, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Environment lists what variables are replaced from, as sorted "NAME=value".
func Environment(o Options) ([]string, error) {
	src, err := discover(o)
	if err != nil {
		return nil, err
	}
	env := src.env.Values()
	slices.Sort(env)
	return env, nil
}

// ServiceNames are the enabled services, each after those it depends on.
func (r *Result) ServiceNames() []string {
	names, err := spec.Order(r.Stack.Services)
	if err != nil { // a loaded stack has no circles
		return slices.Sorted(maps.Keys(r.Stack.Services))
	}
	return names
}

// VolumeNames are the keys of the volumes, sorted.
func (r *Result) VolumeNames() []string { return slices.Sorted(maps.Keys(r.Stack.Volumes)) }

// NetworkNames are the keys of the networks, sorted.
func (r *Result) NetworkNames() []string { return slices.Sorted(maps.Keys(r.Stack.Networks)) }

// Images are the images of the services, one for each service in the order of their names.
func (r *Result) Images() []string {
	var images []string
	for _, name := range slices.Sorted(maps.Keys(r.Stack.Services)) {
		images = append(images, r.Stack.Services[name].Image)
	}
	return images
}

// Profiles are all that services, enabled or not, are under, sorted.
func (r *Result) Profiles() []string {
	var all []string
	for _, s := range r.Stack.Services {
		all = append(all, s.Profiles...)
	}
	for _, profiles := range r.Stack.Disabled {
		all = append(all, profiles...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Hash is a service with the digest of what its containers are made from.
type Hash struct {
	Service string
	Digest  string // hexadecimal
}

// Hashes are those of the services named, or of all, sorted by name. The error is an *spec.UnknownServiceError.
func (r *Result) Hashes(services ...string) ([]Hash, error) {
	selected, err := r.Stack.Select(services, false)
	if err != nil {
		return nil, err
	}
	var all []Hash
	for _, name := range slices.Sorted(maps.Keys(selected.Services)) {
		// The whole stack's service, not the selection's: its links to others are not cut.
		all = append(all, Hash{name, strings.TrimPrefix(r.Stack.Services[name].Digest(), "sha256:")})
	}
	return all, nil
}
