package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// Git is a repository that the git program fetches. The program is 13 to 16 times faster than go-git on a large
// repository, and its memory is its own and gone after the fetch.
//
// What is kept is a bare, shallow repository without the blobs that nobody asked for (a partial clone), where the server
// allows that. Files are read from its objects and written by package checkout, so that git never touches a work tree.
type Git struct {
	Dir     string // a folder of its own
	URL     string
	Ref     declare.Ref
	Sparse  []string // only these paths; empty is all
	Auth    credentials
	MaxSize int64

	opened bool
}

// NewGit prepares a repository. Nothing is done before it is used.
func NewGit(dir string, r declare.Repository) *Git {
	g := &Git{Dir: dir, URL: r.URL, Ref: r.Ref, Auth: credentials{r.Auth}, MaxSize: r.MaxSize}
	if len(r.Sparse) > 0 {
		g.Sparse = append(g.Sparse, r.Sparse...)
		if !r.IsPattern() {
			g.Sparse = append(g.Sparse, r.Path)
		}
	}
	return g
}

func (g *Git) dir() string { return filepath.Join(g.Dir, "objects.git") }

// The references that are kept: what was fetched last, and what is in use.
const (
	fetchedRef = "refs/stack/fetched"
	usedRef    = "refs/stack/used"
)

// open makes the repository, or takes over the one that is there: what a killed git left locked is unlocked, since
// nobody else uses it.
func (g *Git) open(ctx context.Context) error {
	if g.opened {
		return nil
	}
	if err := os.MkdirAll(g.Dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.Dir, "gitconfig"), []byte(settings), 0o600); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(g.dir(), "HEAD")); err != nil {
		// In its place only when it is whole: one that was cut off is no repository to git.
		begun := g.dir() + ".new"
		if err := errors.Join(os.RemoveAll(g.dir()), os.RemoveAll(begun)); err != nil {
			return err
		}
		if _, err := g.run(ctx, nil, "init", "--quiet", "--bare", "--template=", begun); err != nil {
			return err
		}
		if err := os.Rename(begun, g.dir()); err != nil {
			return err
		}
	}
	g.sweep()
	config := fmt.Sprintf("[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tpartialClone = origin\n"+
		"[remote \"origin\"]\n\turl = %s\n\tpromisor = true\n\tpartialCloneFilter = blob:none\n\ttagOpt = --no-tags\n", strconv.Quote(g.URL))
	if err := os.WriteFile(filepath.Join(g.dir(), "config"), []byte(config), 0o600); err != nil {
		return err
	}
	g.opened = true
	return nil
}

// sweep removes what a git that was cut off leaves behind.
func (g *Git) sweep() {
	for _, pattern := range []string{"*.lock", "refs/stack/*.lock", "objects/pack/tmp_*", "objects/pack/.tmp-*", "objects/??/tmp_obj_*", "shallow_*"} {
		found, _ := filepath.Glob(filepath.Join(g.dir(), pattern)) // the patterns are good
		for _, file := range found {
			os.Remove(file) // the next fetch says what is wrong with the disk
		}
	}
}

// Resolve implements Source.
func (g *Git) Resolve(ctx context.Context) (Revision, error) {
	if g.Ref.Commit != "" {
		return Revision{ID: g.Ref.Commit}, nil
	}
	if err := g.open(ctx); err != nil {
		return Revision{}, g.blame(err)
	}
	args := []string{"ls-remote", "--quiet", "origin"}
	switch {
	case g.Ref.Branch != "":
		args = append(args, "refs/heads/"+g.Ref.Branch)
	case g.Ref.Tag != "":
		args = append(args, "refs/tags/"+g.Ref.Tag, "refs/tags/"+g.Ref.Tag+"^{}")
	case g.Ref.SemVer != "":
		args = append(args, "refs/tags/*")
	default:
		args = append(args, "HEAD")
	}
	out, err := g.run(ctx, nil, args...)
	if err != nil {
		return Revision{}, g.blame(err)
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if id, name, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			refs[name] = id
		}
	}
	return g.choose(refs)
}

// choose picks the reference among those that the server has.
func (g *Git) choose(refs map[string]string) (Revision, error) {
	name := "HEAD"
	switch {
	case g.Ref.Branch != "":
		name = "refs/heads/" + g.Ref.Branch
	case g.Ref.Tag != "":
		name = "refs/tags/" + g.Ref.Tag
	case g.Ref.SemVer != "":
		within, err := semver.NewConstraint(g.Ref.SemVer)
		if err != nil {
			return Revision{}, err
		}
		var best *semver.Version
		for ref := range refs {
			tag, ok := strings.CutPrefix(ref, "refs/tags/")
			if !ok || strings.HasSuffix(tag, "^{}") {
				continue
			}
			if v, err := semver.NewVersion(tag); err == nil && within.Check(v) && (best == nil || v.GreaterThan(best)) {
				best, name = v, ref
			}
		}
		if best == nil {
			return Revision{}, fmt.Errorf("%w: no tag is within %q", ErrNotFound, g.Ref.SemVer)
		}
	}
	id, ok := refs[name]
	if !ok {
		return Revision{}, fmt.Errorf("%w: the server has no %s", ErrNotFound, name)
	}
	rev := Revision{ID: id, Ref: name}
	if commit, ok := refs[name+"^{}"]; ok {
		rev.ID, rev.Tag = commit, id
	}
	return rev, nil
}

// Fetch implements Source. The first time it takes the one revision, afterwards what came since.
func (g *Git) Fetch(ctx context.Context, rev Revision) (Revision, error) {
	if err := g.open(ctx); err != nil {
		return rev, g.blame(err)
	}
	if err := g.shrink(ctx); err != nil {
		return rev, g.blame(err)
	}
	if out, err := g.run(ctx, nil, "rev-parse", "--quiet", "--verify", fetchedRef+"^{commit}"); err != nil || string(bytes.TrimSpace(out)) != rev.ID {
		args := []string{"fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head", "--filter=blob:none"}
		if err != nil {
			args = append(args, "--depth=1")
		}
		what := rev.Ref
		if what == "" {
			what = rev.ID
		}
		if _, err := g.run(ctx, nil, append(args, "origin", "+"+what+":"+fetchedRef)...); err != nil {
			return rev, g.blame(err)
		}
	}
	return g.describe(ctx, rev)
}

// describe reads a commit. The reference may have moved on since it was resolved: what was fetched counts.
func (g *Git) describe(ctx context.Context, rev Revision) (Revision, error) {
	out, err := g.run(ctx, nil, "show", "-s", "--no-show-signature", "--format=%H%x00%an <%ae>%x00%ct%x00%s", fetchedRef+"^{commit}")
	if err != nil {
		return rev, g.blame(err)
	}
	fields := strings.SplitN(strings.TrimSuffix(string(out), "\n"), "\x00", 4)
	if len(fields) != 4 {
		return rev, fmt.Errorf("%w: git shows %q of a commit", ErrUnavailable, out)
	}
	if rev.Ref == "" && fields[0] != rev.ID {
		return rev, fmt.Errorf("%w: asked for commit %s, was sent %s", ErrUnavailable, rev.ID, fields[0])
	}
	seconds, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return rev, fmt.Errorf("%w: time of a commit: %w", ErrUnavailable, err)
	}
	rev.ID, rev.Author, rev.Subject, rev.Time = fields[0], fields[1], fields[3], time.Unix(seconds, 0).UTC()
	return rev, nil
}

// Descends implements Source.
func (g *Git) Descends(ctx context.Context, rev Revision, from string) (bool, error) {
	used, err := g.run(ctx, nil, "rev-parse", "--quiet", "--verify", usedRef)
	shallow, _ := os.Stat(filepath.Join(g.dir(), "shallow"))
	if (err != nil || string(bytes.TrimSpace(used)) != from) && shallow != nil {
		// The repository was made anew since: only the whole history tells. It comes without files.
		if _, err := g.run(ctx, nil, "fetch", "--quiet", "--unshallow", "--no-tags", "--no-write-fetch-head", "--filter=tree:0", "origin", rev.ID); err != nil {
			return false, g.blame(err)
		}
	}
	_, err = g.run(ctx, nil, "merge-base", "--is-ancestor", from, rev.ID)
	var failed *gitError
	if errors.As(err, &failed) { // 1: it is not; else: the commit is not known, so it is not either
		return false, nil
	}
	return err == nil, err
}

// Signed implements Source.
func (g *Git) Signed(ctx context.Context, rev Revision, tag bool) (payload, signature []byte, err error) {
	if tag {
		if rev.Tag == "" {
			return nil, nil, nil // a lightweight tag
		}
		object, err := g.run(ctx, nil, "cat-file", "tag", rev.Tag)
		if err != nil {
			return nil, nil, g.blame(err)
		}
		payload, signature = splitTag(object)
		return payload, signature, nil
	}
	object, err := g.run(ctx, nil, "cat-file", "commit", rev.ID)
	if err != nil {
		return nil, nil, g.blame(err)
	}
	payload, signature = splitCommit(object)
	return payload, signature, nil
}

// Clean implements Source: the revision is marked as used, so that its history is known when the next one comes, and what
// many fetches left is thrown away.
func (g *Git) Clean(ctx context.Context, rev Revision) error {
	if _, err := g.run(ctx, nil, "update-ref", usedRef, rev.ID); err != nil {
		return g.blame(err)
	}
	return g.blame(g.shrink(ctx))
}

// blame classifies what git failed of by what is there afterwards: its exit code tells nothing, and its texts change.
func (g *Git) blame(err error) error {
	var failed *gitError
	if !errors.As(err, &failed) {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%w: the server did not answer, or not all of it came, in time; timeout is how long it may take", ErrUnavailable)
		}
		return err
	}
	defer g.sweep()
	packs, _ := filepath.Glob(filepath.Join(g.dir(), "objects/pack/tmp_*")) // the pattern is good
	for _, pack := range packs {
		if st, statErr := os.Stat(pack); statErr == nil && st.Size() >= g.MaxSize/512*512 {
			return fmt.Errorf("%w (%d bytes); name the folders that are needed under sparse, or raise maxSize", ErrTooLarge, g.MaxSize)
		}
	}
	var disk syscall.Statfs_t
	if syscall.Statfs(g.Dir, &disk) == nil && disk.Bavail*uint64(disk.Bsize) < 64<<10 {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err := g.certificate(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
