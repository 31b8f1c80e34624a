package checkout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stack-run/stack/reconciler/gitops/source"
)

// Data is the folder of what stack files mount and the repository does not have.
const Data = "data"

func (s *Store) mounts() string { return filepath.Join(s.Dir, "mounts") }

// Within gives a path below a revision's top as a path from there.
func (t *Tree) Within(file string) (string, bool) {
	rel, err := filepath.Rel(t.Top, file)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return rel, true
}

// Mount returns what a container mounts, or reads, for a path of the tree: a copy named by its content, or for what is not
// in the repository a place that outlives revisions. id is the content's, empty for the latter.
func (s *Store) Mount(t *Tree, rel string) (file, id string, err error) {
	if real, err := filepath.EvalSymlinks(filepath.Join(t.Top, rel)); err == nil {
		within, ok := t.Within(real)
		if !ok {
			return "", "", fmt.Errorf("%w: %s leads out of the repository", source.ErrUnsafe, rel)
		}
		rel = within
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	e, ok := t.Lookup(rel)
	if !ok {
		return filepath.Join(s.Dir, Data, rel), "", nil
	}
	name := folder(e.ID)
	if e.Mode == source.Executable {
		name += "-x" // the same content without the bit is something else
	}
	final := filepath.Join(s.mounts(), name)
	if _, err := os.Lstat(final); err == nil {
		return final, e.ID, nil
	}
	if err := os.MkdirAll(s.mounts(), 0o755); err != nil {
		return "", "", err
	}
	half := filepath.Join(s.mounts(), ".new-"+name)
	if err := os.RemoveAll(half); err != nil {
		return "", "", err
	}
	if err := copyTree(filepath.Join(t.Top, rel), half); err != nil {
		return "", "", errors.Join(err, os.RemoveAll(half))
	}
	return final, e.ID, os.Rename(half, final)
}

// copyTree copies for real: what a container writes to must not be another revision's.
func copyTree(from, to string) error {
	var written []string
	err := filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(file, from)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(file)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		written = append(written, target)
		return os.WriteFile(target, content, info.Mode().Perm()|0o200)
	})
	if err != nil {
		return err
	}
	return flush(written)
}
