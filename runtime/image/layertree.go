package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	cfs "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix     = ".wh."
	whiteoutMetaPrefix = ".wh..wh."
	whiteoutOpaque     = ".wh..wh..opq"
)

// layerTree is one layer on its way from tar entries to files.
//
// The paths of entries are resolved below dir, symbolic links included, by containerd's archive package: nothing is
// written outside. Device nodes and set-uid files are made as the layer has them, as docker does; they do no harm where
// they lie, since the store's folder lets nobody but root in.
//
// An apart tree holds nothing of the layers below, and so can't know the owner of folders its tar leaves out nor the
// targets of hard links into lower layers. Both are noted, and filled in by inherit once the layers below are there.
type layerTree struct {
	dir    string
	apart  bool
	bottom bool
	limits Limits

	entries int
	bytes   int64
	folders map[string]bool // folders seen: true when an entry describes it, false when only implied by a path
	links   []*tar.Header   // hard links whose target is not in this layer
}

func newLayerTree(dir string, apart, bottom bool, limits Limits) *layerTree {
	return &layerTree{dir: dir, apart: apart, bottom: bottom, limits: limits, folders: map[string]bool{"/": true}}
}

// admit sees each entry before it is applied.
func (t *layerTree) admit(h *tar.Header) (bool, error) {
	t.entries++
	t.bytes += entryBytes(h)
	if t.entries > t.limits.LayerEntries {
		return false, faultf(ErrInvalid, "more than %d entries", t.limits.LayerEntries)
	}
	if t.bytes > t.limits.LayerBytes || h.Size < 0 {
		return false, faultf(ErrInvalid, "more than %d bytes unpacked", t.limits.LayerBytes)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return false, nil
	}
	base := filepath.Base(h.Name)
	if strings.HasPrefix(base, whiteoutMetaPrefix) && base != whiteoutOpaque {
		return false, nil // aufs' own book-keeping
	}
	if !t.apart || t.bottom {
		return true, nil
	}
	t.noteFolders(h)
	if h.Typeflag == tar.TypeLink && !t.has(h.Linkname) {
		t.links = append(t.links, h)
		return false, nil
	}
	return true, nil
}

func (t *layerTree) noteFolders(h *tar.Header) {
	name := filepath.Join("/", h.Name)
	if h.Typeflag == tar.TypeDir {
		t.folders[name] = true
	}
	for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
		if _, seen := t.folders[dir]; seen {
			return
		}
		t.folders[dir] = false
	}
}

// has reports whether the layer itself holds name, a symbolic link at its end counting as such.
func (t *layerTree) has(name string) bool {
	_, err := lstatIn(t.dir, name)
	return err == nil
}

// whiteout turns the tar's deletion marks into overlay's. It reports whether the entry is an ordinary file instead.
func (t *layerTree) whiteout(h *tar.Header, path string) (bool, error) {
	dir, base := filepath.Split(path)
	switch {
	case !strings.HasPrefix(base, whiteoutPrefix):
		return true, nil
	case t.bottom:
		return false, nil // nothing below to delete
	case base == whiteoutOpaque:
		return false, unix.Setxattr(dir, "trusted.overlay.opaque", []byte{'y'}, 0)
	}
	hidden := filepath.Join(dir, strings.TrimPrefix(base, whiteoutPrefix))
	if hidden == filepath.Clean(dir) || filepath.Dir(hidden) != filepath.Clean(dir) {
		return false, faultf(ErrInvalid, "deletion mark %q", h.Name)
	}
	err := unix.Mknod(hidden, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EEXIST) {
		// The layer both deletes and makes it: what lies below goes, its own stays, whichever entry came first.
		if fi, lerr := os.Lstat(hidden); lerr == nil && fi.IsDir() {
			return false, unix.Setxattr(hidden, "trusted.overlay.opaque", []byte{'y'}, 0)
		}
		return false, nil
	}
	return false, err
}

// inherit completes an apart tree with what the layers below know, the topmost of them first.
func (t *layerTree) inherit(lowers []string) error {
	for _, h := range t.links {
		if err := t.linkBelow(h, lowers); err != nil {
			return fmt.Errorf("hard link %q to %q: %w", h.Name, h.Linkname, err)
		}
	}
	implied := make([]string, 0, len(t.folders))
	for name, described := range t.folders {
		if !described {
			implied = append(implied, name)
		}
	}
	slices.SortFunc(implied, func(a, b string) int { return strings.Compare(b, a) }) // children first: times of parents stay
	for _, name := range implied {
		if err := t.inheritFolder(name, lowers); err != nil {
			return fmt.Errorf("folder %q: %w", name, err)
		}
	}
	return nil
}

// inheritFolder gives a folder the layer only passes through the owner, mode, times and attributes it has below.
func (t *layerTree) inheritFolder(name string, lowers []string) error {
	own, err := cfs.RootPath(t.dir, name)
	if err != nil {
		return err
	}
	if fi, err := os.Lstat(own); err != nil || !fi.IsDir() {
		return nil // a later entry replaced it
	}
	src, fi, err := findBelow(lowers, name)
	if err != nil || !fi.IsDir() {
		return ignoreNotExist(err)
	}
	return copyMetadata(own, src, fi)
}

// linkBelow does what a hard link into a lower layer does on overlayfs: the file is copied up first.
func (t *layerTree) linkBelow(h *tar.Header, lowers []string) error {
	t.noteFolders(&tar.Header{Name: h.Linkname})
	target, err := t.place(h.Linkname)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		src, fi, err := findBelow(lowers, h.Linkname)
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			return faultf(ErrInvalid, "not a regular file")
		}
		if err := cfs.CopyFile(target, src); err != nil {
			return err
		}
		if err := copyMetadata(target, src, fi); err != nil {
			return err
		}
	}
	path, err := t.place(h.Name)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Link(target, path)
}

// place resolves name within the layer and makes the folders it lies in.
func (t *layerTree) place(name string) (string, error) {
	dir, base := filepath.Split(filepath.Join("/", name))
	if base == "" {
		return "", faultf(ErrInvalid, "names the root")
	}
	parent, err := cfs.RootPath(t.dir, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, base), os.MkdirAll(parent, 0o755)
}

// lstatIn looks at name below root, resolving links on the way but not at its end.
func lstatIn(root, name string) (string, error) {
	dir, base := filepath.Split(filepath.Join("/", name))
	parent, err := cfs.RootPath(root, dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(parent, base)
	_, err = os.Lstat(path)
	return path, err
}

// findBelow finds name in the topmost lower layer that has it. A deletion mark counts as its absence.
func findBelow(lowers []string, name string) (string, fs.FileInfo, error) {
	for _, lower := range lowers {
		path, err := lstatIn(lower, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return "", nil, err
		}
		if st := fi.Sys().(*syscall.Stat_t); fi.Mode()&os.ModeCharDevice != 0 && st.Rdev == 0 {
			break
		}
		return path, fi, nil
	}
	return "", nil, &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
