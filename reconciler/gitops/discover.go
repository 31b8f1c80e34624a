package gitops

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/spec/load"
)

// found is one stack of a revision, before it is loaded.
type found struct {
	path     string // what its status calls it
	dir      string // folder of the stack file, from the top
	file     string // the stack file, empty for whichever the folder has
	profiles []string
	envFiles []string // absolute
}

// forHost applies the overrides whose labels this host has.
func forHost(r declare.Repository, labels map[string]string) (_ declare.Repository, skip []string) {
	for _, o := range r.Overrides {
		matches := true
		for name, value := range o.When {
			matches = matches && labels[name] == value
		}
		if !matches {
			continue
		}
		if o.Path != "" {
			r.Path = o.Path
		}
		if o.Profiles != nil {
			r.Profiles = o.Profiles
		}
		if o.EnvFiles != nil {
			r.EnvFiles = o.EnvFiles
		}
		skip = append(skip, o.Skip...)
	}
	return r, skip
}

// discover finds the stacks of a revision.
func discover(t *checkout.Tree, r declare.Repository, skip []string) ([]found, error) {
	var files []string
	if r.IsPattern() {
		for _, file := range t.Files() {
			if ok, _ := doublestar.Match(r.Path, file); ok { // the pattern was checked
				files = append(files, file)
			}
		}
	} else {
		at := path.Clean(filepath.ToSlash(r.Path))
		e, ok := t.Lookup(at)
		switch {
		case !ok && (at != "." || len(t.Files()) == 0):
			return nil, fmt.Errorf("%w: path %s", source.ErrNotFound, at)
		case ok && e.Mode != source.Folder:
			files = []string{at}
		default:
			return one(t, r, at)
		}
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return slices.ContainsFunc(skip, func(pattern string) bool {
			ok, _ := doublestar.Match(pattern, file)
			return ok
		})
	})
	var all []found
	for _, file := range files {
		all = append(all, found{path: file, dir: path.Dir(file), file: file, profiles: r.Profiles, envFiles: envFiles(t, r)})
	}
	return all, nil
}

// one is the stack of a folder. The folder has to have a stack file: those above it, which Compose would look for, are
// another stack's, or not even the repository's.
func one(t *checkout.Tree, r declare.Repository, dir string) ([]found, error) {
	if len(load.FilesIn(filepath.Join(t.Top, dir))) == 0 {
		return nil, fmt.Errorf("%w: no stack file (compose.yaml) in the folder %s", source.ErrNotFound, dir)
	}
	return []found{{path: dir, dir: dir, profiles: r.Profiles, envFiles: envFiles(t, r)}}, nil
}

func envFiles(t *checkout.Tree, r declare.Repository) []string {
	var files []string
	for _, f := range r.EnvFiles {
		files = append(files, filepath.Join(t.Top, f))
	}
	return files
}

// unchanged tells whether all that a stack was made from is the same in a revision.
func unchanged(inputs map[string]string, t *checkout.Tree) bool {
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		e, _ := t.Lookup(name)
		if e.ID != inputs[name] {
			return false
		}
	}
	return len(inputs) > 0
}
