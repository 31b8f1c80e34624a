package source

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// Registry fetches OCI artifacts.
type Registry interface {
	Tags(ctx context.Context, repository string) ([]string, error)
	// Manifest tells the digest and annotations of what a reference points to.
	Manifest(ctx context.Context, reference string) (digest string, annotations map[string]string, err error)
	// Archives hands each layer of a manifest to f as a tar stream. A layer that is one file comes as an archive of it.
	Archives(ctx context.Context, reference string, f func(io.Reader) error) error
}

// Artifact is a repository in a registry: each revision is an artifact whose layers are archives of files. What is fetched is
// kept as blobs named by their content, with a list of them for each revision.
type Artifact struct {
	Dir      string
	Name     string // registry and repository
	Ref      declare.Ref
	MaxSize  int64
	Registry Registry
}

// NewArtifact prepares a source. Nothing is done before it is used.
func NewArtifact(dir string, r declare.Repository, registry Registry) *Artifact {
	return &Artifact{Dir: dir, Name: strings.TrimPrefix(r.URL, "oci://"), Ref: r.Ref, MaxSize: r.MaxSize, Registry: registry}
}

// Resolve implements Source.
func (a *Artifact) Resolve(ctx context.Context) (Revision, error) {
	tag := a.Ref.Tag
	switch {
	case a.Ref.Commit != "":
		return Revision{ID: a.Ref.Commit}, nil
	case a.Ref.SemVer != "":
		tags, err := a.Registry.Tags(ctx, a.Name)
		if err != nil {
			return Revision{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if tag, err = highest(tags, a.Ref.SemVer); err != nil {
			return Revision{}, err
		}
	case tag == "":
		tag = "latest"
	}
	digest, _, err := a.Registry.Manifest(ctx, a.Name+":"+tag)
	if err != nil {
		return Revision{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return Revision{ID: digest, Ref: tag}, nil
}

// highest is the highest of tags within a range.
func highest(tags []string, within string) (string, error) {
	constraint, err := semver.NewConstraint(within)
	if err != nil {
		return "", err
	}
	var best *semver.Version
	found := ""
	for _, tag := range tags {
		if v, err := semver.NewVersion(tag); err == nil && constraint.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, found = v, tag
		}
	}
	if best == nil {
		return "", fmt.Errorf("%w: no tag is within %q", ErrNotFound, within)
	}
	return found, nil
}

func (a *Artifact) list(id string) string {
	return filepath.Join(a.Dir, strings.ReplaceAll(id, ":", "-")+".json")
}

func (a *Artifact) blob(id string) string { return filepath.Join(a.Dir, "blobs", id) }

// Fetch implements Source.
func (a *Artifact) Fetch(ctx context.Context, rev Revision) (Revision, error) {
	digest, notes, err := a.Registry.Manifest(ctx, a.Name+"@"+rev.ID)
	if err != nil {
		return rev, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if digest != rev.ID {
		return rev, fmt.Errorf("%w: asked for %s, was sent %s", ErrUnavailable, rev.ID, digest)
	}
	rev.Author, rev.Subject = notes["org.opencontainers.image.authors"], notes["org.opencontainers.image.revision"]
	if created, err := time.Parse(time.RFC3339, notes["org.opencontainers.image.created"]); err == nil {
		rev.Time = created
	}
	if _, err := os.Stat(a.list(rev.ID)); err == nil {
		return rev, nil
	}
	if err := os.RemoveAll(a.Dir); err != nil { // what other revisions and failed attempts left
		return rev, err
	}
	if err := os.MkdirAll(filepath.Join(a.Dir, "blobs"), 0o700); err != nil {
		return rev, err
	}
	u := &unpacking{a: a, entries: map[string]Entry{}}
	if err := a.Registry.Archives(ctx, a.Name+"@"+rev.ID, u.archive); err != nil {
		if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnsafe) {
			return rev, err
		}
		return rev, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	data, err := json.Marshal(u.sorted())
	if err != nil {
		return rev, err
	}
	return rev, atomicfile.Write(a.list(rev.ID), data, false)
}

// unpacking takes archives apart.
type unpacking struct {
	a       *Artifact
	entries map[string]Entry
	size    int64
	steps   int // of all paths
}

// What the paths of an artifact may come to: its headers are not content, and pack well.
const (
	longestPath = 4096
	mostSteps   = 4_000_000
)

func (u *unpacking) archive(r io.Reader) (err error) {
	size, steps := u.size, u.steps
	defer func() {
		if err != nil {
			u.size, u.steps = size, steps // it may be tried again
		}
	}()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // to the end, where the digest is checked
			return err
		}
		if err != nil {
			return err
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "./"))
		if name == "." {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%w: the path %q", ErrUnsafe, h.Name)
		}
		if u.steps += 1 + strings.Count(name, "/"); len(name) > longestPath || u.steps > mostSteps {
			return fmt.Errorf("%w: too many files, or too deep", ErrTooLarge)
		}
		e := Entry{Path: name}
		switch h.Typeflag {
		case tar.TypeDir:
			e.Mode = Folder
		case tar.TypeSymlink:
			e.Mode = Symlink
			e.ID, err = u.keep(strings.NewReader(h.Linkname))
		case tar.TypeReg:
			if h.Mode&0o111 != 0 {
				e.Mode = Executable
			}
			e.ID, err = u.keep(t)
		default:
			return fmt.Errorf("%w: %s is neither a file, a folder nor a symlink", ErrUnsafe, name)
		}
		if err != nil {
			return err
		}
		u.entries[name] = e
	}
}

// keep writes a content down under its digest.
func (u *unpacking) keep(r io.Reader) (string, error) {
	half, err := os.CreateTemp(filepath.Join(u.a.Dir, "blobs"), ".new-")
	if err != nil {
		return "", err
	}
	defer os.Remove(half.Name())
	defer half.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(half, sum), io.LimitReader(r, u.a.MaxSize-u.size+1))
	if err != nil {
		return "", err
	}
	if u.size += n; u.size > u.a.MaxSize {
		return "", fmt.Errorf("%w (%d bytes); raise maxSize", ErrTooLarge, u.a.MaxSize)
	}
	id := hex.EncodeToString(sum.Sum(nil))
	return id, os.Rename(half.Name(), u.a.blob(id))
}

// sorted are the entries with every folder that they are in. A folder's id is of all that is below it.
func (u *unpacking) sorted() []Entry {
	folders := map[string][]Entry{"": nil}
	for name, e := range u.entries {
		if e.Mode == Folder {
			folders[name] = append(folders[name], Entry{})
		}
		for dir := name; dir != "" && dir != "."; {
			if dir = path.Dir(dir); dir == "." {
				dir = ""
			}
			folders[dir] = append(folders[dir], e)
		}
	}
	var out []Entry
	for dir, within := range folders {
		slices.SortFunc(within, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
		var b bytes.Buffer
		for _, e := range within {
			fmt.Fprintf(&b, "%s %d %s\n", strings.TrimPrefix(e.Path, dir), e.Mode, e.ID)
		}
		sum := sha256.Sum256(b.Bytes())
		out = append(out, Entry{Path: dir, Mode: Folder, ID: hex.EncodeToString(sum[:])})
	}
	for _, e := range u.entries {
		if e.Mode != Folder {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// Entries implements Source.
func (a *Artifact) Entries(_ context.Context, rev Revision) ([]Entry, error) {
	data, err := os.ReadFile(a.list(rev.ID))
	if err != nil {
		return nil, err
	}
	var entries []Entry
	return entries, json.Unmarshal(data, &entries)
}

// Read implements Source.
func (a *Artifact) Read(_ context.Context, _ Revision, entries []Entry, f func(e Entry, size int64, r io.Reader) error) error {
	for _, e := range entries {
		if err := a.readOne(e, f); err != nil {
			return err
		}
	}
	return nil
}

func (a *Artifact) readOne(e Entry, f func(e Entry, size int64, r io.Reader) error) error {
	blob, err := os.Open(a.blob(e.ID))
	if err != nil {
		return err
	}
	defer blob.Close()
	st, err := blob.Stat()
	if err != nil {
		return err
	}
	return f(e, st.Size(), blob)
}

// Descends implements Source: a registry keeps no history.
func (a *Artifact) Descends(context.Context, Revision, string) (bool, error) { return true, nil }

// Signed implements Source. Verification is refused when it is declared.
func (a *Artifact) Signed(context.Context, Revision, bool) (payload, signature []byte, err error) {
	return nil, nil, nil
}

// Clean implements Source: the checkout has all that was fetched.
func (a *Artifact) Clean(context.Context, Revision) error { return os.RemoveAll(a.Dir) }
