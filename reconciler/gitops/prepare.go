package gitops

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/load"
)

// prepared is one stack of a revision, ready to be applied.
type prepared struct {
	found
	desired *spec.Stack
	digest  string
	inputs  map[string]string // see status.Stack
}

// prepare loads one stack and makes it independent of the checkout: what its containers mount and read is named by its
// content, everything else by the stable path.
func (x *attempt) prepare(ctx context.Context, t *checkout.Tree, f found) (*prepared, error) {
	dir := filepath.Join(t.Top, f.dir)
	o := load.Options{ProjectDirectory: dir, WorkingDir: dir, Profiles: f.profiles, EnvFiles: f.envFiles, Environ: x.c.environ()}
	if f.file != "" {
		o.Files = []string{filepath.Join(t.Top, f.file)}
	}
	result, err := load.Load(ctx, o)
	if err != nil {
		return nil, x.relative(t, err)
	}
	p := &prepared{found: f, desired: result.Stack, inputs: map[string]string{}}
	if err := x.ownInputs(t, p, result.Inputs); err != nil {
		return nil, err
	}
	if err := x.decrypt(p, t, result.Inputs); err != nil {
		return nil, err
	}
	if err := x.ownMounts(t, p); err != nil {
		return nil, err
	}
	if p.desired, err = moved(p.desired, t.Top, x.store.Current()); err != nil {
		return nil, err
	}
	p.digest = digest(p.desired)
	return p, nil
}

// relative names files as the repository does in an error's text.
func (x *attempt) relative(t *checkout.Tree, err error) error {
	return fmt.Errorf("%s", strings.ReplaceAll(err.Error(), t.Top+"/", ""))
}

// ownInputs notes what a stack was made from, and refuses what is neither the repository's nor allowed.
func (x *attempt) ownInputs(t *checkout.Tree, p *prepared, inputs []string) error {
	whole := true
	for _, file := range inputs {
		rel, ok := t.Within(file)
		if ok {
			real, err := filepath.EvalSymlinks(file)
			if err == nil {
				rel, ok = t.Within(real)
			}
		}
		if !ok {
			if !x.allowed(file) {
				return fmt.Errorf("%w: %s is outside of the repository; allow it under hostFiles", source.ErrUnsafe, file)
			}
			whole = false
			continue
		}
		e, _ := t.Lookup(rel)
		p.inputs[rel] = e.ID
	}
	if !whole {
		p.inputs = nil // files of the host change without a commit: it is loaded every time
	}
	return nil
}

func (x *attempt) allowed(file string) bool {
	for _, allowed := range x.def.HostFiles {
		if rel, err := filepath.Rel(allowed, file); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// ownMounts replaces what containers mount and read from the checkout by what is named by its content.
func (x *attempt) ownMounts(t *checkout.Tree, p *prepared) error {
	own := func(file string) (string, error) {
		rel, ok := t.Within(file)
		if !ok {
			return file, nil
		}
		mounted, id, err := x.store.Mount(t, rel)
		if err == nil && p.inputs != nil {
			p.inputs[rel] = id
		}
		return mounted, err
	}
	var err error
	for _, svc := range p.desired.Workloads() {
		for i, m := range svc.Mounts {
			if m.Type != spec.MountBind {
				continue
			}
			if svc.Mounts[i].Source, err = own(m.Source); err != nil {
				return fmt.Errorf("%s: volumes: %w", spec.ServiceAddress(svc.Name), err)
			}
		}
	}
	for _, files := range []map[string]*spec.File{p.desired.Secrets, p.desired.Configs} {
		for _, f := range files {
			if f.File == "" {
				continue
			}
			if f.File, err = own(f.File); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	}
	return nil
}

// moved is the stack with one folder's path replaced by another's wherever it occurs: labels, positions, variables.
func moved(s *spec.Stack, from, to string) (*spec.Stack, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	old, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	replacement, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	text := strings.ReplaceAll(string(data), string(old[1:len(old)-1]), string(replacement[1:len(replacement)-1]))
	var out spec.Stack
	return &out, json.Unmarshal([]byte(text), &out)
}

// Sources are the host paths that a stack's containers mount or read.
func Sources(s *spec.Stack) []string {
	var out []string
	for _, svc := range s.Workloads() {
		for _, m := range svc.Mounts {
			if m.Type == spec.MountBind {
				out = append(out, path.Clean(m.Source))
			}
		}
		for _, file := range svc.SecretEnvironment {
			out = append(out, file)
		}
	}
	for _, files := range []map[string]*spec.File{s.Secrets, s.Configs} {
		for _, f := range files {
			if f.File != "" {
				out = append(out, path.Clean(f.File))
			}
		}
	}
	return out
}
