// Package checkout keeps revisions of a repository as files, for stack files to be read from and for containers to mount.
//
// Below the repository's folder:
//
//	revisions/<id>/<name>/   the files of a revision, read-only; never mounted
//	revisions/<id>.json      its entries
//	current                  a symlink to the revision in use, switched by rename
//	mounts/<object id>       one file or folder as containers mount it
//	data/<path>              what stack files mount that is not in the repository: it outlives revisions
//
// A mount source is named by its content. So a container goes on with what it was made with whatever is checked out
// beside it, a change of the content is a change of the container, and everything else is none.
package checkout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/reconciler/gitops/source"
)

// Store is one repository's folder.
type Store struct {
	Dir     string
	Name    string // of the checkout's top folder: what a stack is called whose file does not say
	MaxSize int64
}

// maxEntries bounds a revision. The largest public repositories have some hundred thousand files.
const maxEntries = 500_000

// Tree is a revision that is checked out.
type Tree struct {
	ID      string
	Top     string // absolute
	entries map[string]source.Entry
}

// Lookup finds an entry by its path from the top; "." is the top.
func (t *Tree) Lookup(name string) (source.Entry, bool) {
	if name == "." {
		name = ""
	}
	e, ok := t.entries[name]
	return e, ok
}

// Files are the paths of the regular files, sorted.
func (t *Tree) Files() []string {
	var files []string
	for name, e := range t.entries {
		if e.Mode == source.File || e.Mode == source.Executable {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return files
}

func (s *Store) revisions() string { return filepath.Join(s.Dir, "revisions") }

// folder is a revision's name on disk.
func folder(id string) string { return strings.ReplaceAll(id, ":", "-") }

// Current is the stable path of the files in use.
func (s *Store) Current() string { return filepath.Join(s.Dir, "current", s.Name) }

// Open finds a revision that was checked out before; nil when it is not there.
func (s *Store) Open(id string) (*Tree, error) {
	data, err := os.ReadFile(filepath.Join(s.revisions(), folder(id)+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []source.Entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, nil // torn by a crash: it is checked out anew
	}
	t := s.tree(id, entries)
	if _, err := os.Stat(t.Top); err != nil {
		return nil, nil
	}
	return t, nil
}

func (s *Store) tree(id string, entries []source.Entry) *Tree {
	t := &Tree{ID: id, Top: filepath.Join(s.revisions(), folder(id), s.Name), entries: map[string]source.Entry{}}
	for _, e := range entries {
		t.entries[e.Path] = e
	}
	return t
}

// Write checks a fetched revision out, or finds it done. What the previous one has too is linked, not read again.
func (s *Store) Write(ctx context.Context, src source.Source, rev source.Revision, previous *Tree) (*Tree, error) {
	if t, err := s.Open(rev.ID); t != nil || err != nil {
		return t, err
	}
	entries, err := src.Entries(ctx, rev)
	if err != nil {
		return nil, err
	}
	if err := check(entries); err != nil {
		return nil, err
	}
	half := filepath.Join(s.revisions(), ".new")
	if err := os.RemoveAll(half); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(half, s.Name), 0o755); err != nil {
		return nil, err
	}
	w := &writer{ctx: ctx, max: s.MaxSize, previous: previous}
	if w.root, err = os.OpenRoot(filepath.Join(half, s.Name)); err != nil {
		return nil, err
	}
	err = w.write(src, rev, entries)
	if closeErr := w.root.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(half))
	}
	data, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	final := filepath.Join(s.revisions(), folder(rev.ID))
	if err := os.RemoveAll(final); err != nil { // without its entries: half-removed
		return nil, err
	}
	if err := os.Rename(half, final); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(final+".json", data, false); err != nil {
		return nil, err
	}
	return s.tree(rev.ID, entries), nil
}

// check refuses names that no honest repository has, and more of them than anybody wants.
func check(entries []source.Entry) error {
	if len(entries) > maxEntries {
		return fmt.Errorf("%w: %d files; name the folders that are needed under sparse", source.ErrTooLarge, len(entries))
	}
	for _, e := range entries {
		if e.Path == "" {
			continue
		}
		if !filepath.IsLocal(e.Path) || path.Clean(e.Path) != e.Path || strings.ContainsRune(e.Path, 0) {
			return fmt.Errorf("%w: the path %q", source.ErrUnsafe, e.Path)
		}
		for part := range strings.SplitSeq(e.Path, "/") {
			if strings.EqualFold(part, ".git") {
				return fmt.Errorf("%w: the path %q", source.ErrUnsafe, e.Path)
			}
		}
	}
	return nil
}

// writer writes one revision. The root refuses whatever would lead out of it.
type writer struct {
	ctx      context.Context
	root     *os.Root
	max      int64
	size     int64
	previous *Tree
	written  []string
}

func (w *writer) write(src source.Source, rev source.Revision, entries []source.Entry) error {
	var read []source.Entry
	var links []string
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		switch {
		case e.Path == "":
			continue
		case e.Mode == source.Folder:
			if err := w.root.MkdirAll(e.Path, 0o755); err != nil {
				return w.told(e, err)
			}
			continue
		case e.Mode == source.Symlink:
			links = append(links, e.Path)
		}
		if dir := path.Dir(e.Path); dir != "." {
			if err := w.root.MkdirAll(dir, 0o755); err != nil {
				return w.told(e, err)
			}
		}
		if linked, err := w.link(e); err != nil {
			return err
		} else if !linked {
			read = append(read, e)
		}
	}
	// Symlinks last: nothing is written through one.
	slices.SortStableFunc(read, func(a, b source.Entry) int {
		return boolInt(a.Mode == source.Symlink) - boolInt(b.Mode == source.Symlink)
	})
	if err := src.Read(w.ctx, rev, read, w.entry); err != nil {
		return err
	}
	if err := flush(w.written); err != nil {
		return err
	}
	for _, link := range links {
		if _, err := w.root.Stat(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: the symlink %s leads out of the repository", source.ErrUnsafe, link)
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// link takes a file over from the previous revision.
func (w *writer) link(e source.Entry) (bool, error) {
	if w.previous == nil || e.Mode == source.Symlink {
		return false, nil
	}
	old, ok := w.previous.entries[e.Path]
	if !ok || old.ID != e.ID || old.Mode != e.Mode {
		return false, nil
	}
	from := filepath.Join(w.previous.Top, e.Path)
	st, err := os.Lstat(from)
	if err != nil || !st.Mode().IsRegular() {
		return false, nil
	}
	if err := w.grow(st.Size()); err != nil {
		return false, err
	}
	return os.Link(from, filepath.Join(w.root.Name(), e.Path)) == nil, nil
}

func (w *writer) grow(size int64) error {
	if w.size += size; w.size > w.max {
		return fmt.Errorf("%w (%d bytes); name the folders that are needed under sparse, or raise maxSize", source.ErrTooLarge, w.max)
	}
	return nil
}

// longestLink is PATH_MAX.
const longestLink = 4096

func (w *writer) entry(e source.Entry, size int64, r io.Reader) error {
	if err := w.grow(size); err != nil {
		return err
	}
	if e.Mode == source.Symlink {
		target, err := io.ReadAll(io.LimitReader(r, longestLink))
		if err != nil {
			return err
		}
		return w.told(e, w.root.Symlink(string(target), e.Path))
	}
	mode := fs.FileMode(0o444)
	if e.Mode == source.Executable {
		mode = 0o555
	}
	f, err := w.root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return w.told(e, err)
	}
	w.written = append(w.written, filepath.Join(w.root.Name(), e.Path))
	_, err = io.Copy(f, r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return w.told(e, err)
}

func (w *writer) told(e source.Entry, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("check out %s: %w", e.Path, err)
}

// Use makes a revision the current one, in one step.
func (s *Store) Use(t *Tree) error {
	link, target := filepath.Join(s.Dir, "current"), filepath.Join("revisions", folder(t.ID))
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	half := link + ".new"
	if err := os.Remove(half); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, half); err != nil {
		return err
	}
	return os.Rename(half, link)
}

// Prune removes revisions and mounts that nobody has a use for. Mounts are absolute paths below Mounts.
func (s *Store) Prune(revisions []string, mounts map[string]bool) error {
	keep := map[string]bool{}
	for _, id := range revisions {
		keep[folder(id)], keep[folder(id)+".json"] = true, true
	}
	if target, err := os.Readlink(filepath.Join(s.Dir, "current")); err == nil {
		keep[filepath.Base(target)], keep[filepath.Base(target)+".json"] = true, true
	}
	used := map[string]bool{}
	for mount := range maps.Keys(mounts) {
		if rel, err := filepath.Rel(s.mounts(), mount); err == nil && filepath.IsLocal(rel) {
			name, _, _ := strings.Cut(rel, "/")
			used[name] = true
		}
	}
	return errors.Join(sweep(s.revisions(), keep), sweep(s.mounts(), used))
}

// sweep removes what is not to be kept, entries before their files.
func sweep(dir string, keep map[string]bool) error {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return strings.Compare(b.Name(), a.Name()) })
	for _, e := range found {
		if !keep[e.Name()] {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
