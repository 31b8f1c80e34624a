package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// upstream is a repository in a folder, and a clone that commits to it.
type upstream struct {
	t    *testing.T
	bare string
	work string
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	dir := t.TempDir()
	u := &upstream{t: t, bare: filepath.Join(dir, "up.git"), work: filepath.Join(dir, "work")}
	u.git(dir, "init", "-q", "--bare", "-b", "main", u.bare)
	u.git(u.bare, "config", "uploadpack.allowFilter", "true")
	u.git(u.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
	u.git(dir, "init", "-q", "-b", "main", u.work)
	u.git(u.work, "remote", "add", "origin", u.bare)
	return u
}

func (u *upstream) git(dir string, args ...string) string {
	u.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *upstream) commit(message string, files map[string]string) string {
	u.t.Helper()
	for name, content := range files {
		file := filepath.Join(u.work, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			u.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			u.t.Fatal(err)
		}
	}
	u.git(u.work, "add", "-A")
	u.git(u.work, "commit", "-q", "--allow-empty", "-m", message)
	u.git(u.work, "push", "-q", "-f", "--tags", "origin", "main")
	return u.git(u.work, "rev-parse", "HEAD")
}

func (u *upstream) open(change func(*declare.Repository)) *Git {
	r := declare.Repository{Name: "a", URL: "file://" + u.bare, Ref: declare.Ref{Branch: "main"}}.WithDefaults()
	if change != nil {
		change(&r)
	}
	return NewGit(filepath.Join(u.t.TempDir(), "git"), r)
}

// at resolves and fetches.
func at(t *testing.T, g *Git) Revision {
	t.Helper()
	rev, err := g.Resolve(t.Context())
	if err == nil {
		rev, err = g.Fetch(t.Context(), rev)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// content reads all files of a revision.
func content(t *testing.T, g *Git, rev Revision) map[string]string {
	t.Helper()
	entries, err := g.Entries(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	var files []Entry
	for _, e := range entries {
		if e.Mode != Folder {
			files = append(files, e)
		}
	}
	out := map[string]string{}
	err = g.Read(t.Context(), rev, files, func(e Entry, _ int64, r io.Reader) error {
		data, err := io.ReadAll(r)
		out[e.Path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestARevisionIsReadAsItWasCommitted(t *testing.T) {
	u := newUpstream(t)
	first := u.commit("one", map[string]string{"a b.txt": "A", "dir/c": "C", ".gitattributes": "* ident text eol=crlf filter=lfs\n"})
	g := u.open(nil)
	rev := at(t, g)
	if rev.ID != first || rev.Author != "Ada <ada@example.com>" || rev.Subject != "one" || time.Since(rev.Time) > time.Hour {
		t.Errorf("revision %+v", rev)
	}
	second := u.commit("two", map[string]string{"a b.txt": "AA"})
	rev = at(t, g)
	got := content(t, g, rev)
	if rev.ID != second || got["a b.txt"] != "AA" || got["dir/c"] != "C" || len(got) != 3 {
		t.Errorf("%s has %v", rev.ID, got)
	}
	if ok, err := g.Descends(t.Context(), rev, first); !ok || err != nil {
		t.Errorf("the second commit does not come after the first: %v", err)
	}
}

func TestOnlyWhatIsNeededIsFetched(t *testing.T) {
	u := newUpstream(t)
	big := strings.Repeat(fmt.Sprint(time.Now().UnixNano()), 1<<16)
	u.commit("one", map[string]string{"big": big, "deploy/compose.yaml": "x"})
	g := u.open(func(r *declare.Repository) { r.Sparse, r.Path = []string{"deploy"}, "deploy" })
	rev := at(t, g)
	if got := content(t, g, rev); len(got) != 1 || got["deploy/compose.yaml"] != "x" {
		t.Errorf("read %v", got)
	}
	if out, err := g.run(t.Context(), nil, "rev-list", "--objects", "--missing=print", "--no-object-names", rev.ID); err != nil || strings.Count(string(out), "?") != 1 {
		t.Errorf("the large file was fetched: %s %v", out, err)
	}
}

func TestReferencesResolve(t *testing.T) {
	u := newUpstream(t)
	one := u.commit("one", nil)
	u.git(u.work, "tag", "v1.2.0")
	two := u.commit("two", nil)
	u.git(u.work, "tag", "-a", "-m", "m", "v1.10.0")
	three := u.commit("three", nil)
	u.git(u.work, "tag", "v2.0.0-rc.1")
	u.commit("four", nil)
	for _, c := range []struct {
		ref  declare.Ref
		want string
	}{
		{declare.Ref{Tag: "v1.2.0"}, one}, {declare.Ref{Tag: "v1.10.0"}, two}, {declare.Ref{SemVer: ">=1.0 <2"}, two},
		{declare.Ref{SemVer: ">=2.0.0-0"}, three}, {declare.Ref{Commit: two}, two}, {declare.Ref{}, u.git(u.work, "rev-parse", "HEAD")},
	} {
		g := u.open(func(r *declare.Repository) { r.Ref = c.ref })
		if rev := at(t, g); rev.ID != c.want {
			t.Errorf("%s is %s, want %s", c.ref, rev.ID, c.want)
		}
	}
	for _, ref := range []declare.Ref{{Branch: "nope"}, {Tag: "v9"}, {SemVer: ">=3"}} {
		if _, err := u.open(func(r *declare.Repository) { r.Ref = ref }).Resolve(t.Context()); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v", ref, err)
		}
	}
}

func TestARewrittenBranchDoesNotDescend(t *testing.T) {
	u := newUpstream(t)
	u.commit("base", nil)
	old := u.commit("old", map[string]string{"a": "1"})
	g := u.open(nil)
	rev := at(t, g)
	if err := g.Clean(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	u.git(u.work, "reset", "-q", "--hard", "HEAD~1")
	backwards := u.git(u.work, "rev-parse", "HEAD")
	u.git(u.work, "push", "-q", "-f", "origin", "main")
	if rev := at(t, g); rev.ID != backwards {
		t.Fatalf("fetched %s", rev.ID)
	} else if ok, err := g.Descends(t.Context(), rev, old); ok || err != nil {
		t.Errorf("a branch that was moved backwards descends: %v %v", ok, err)
	}
	u.commit("instead", map[string]string{"a": "2"})
	if ok, err := g.Descends(t.Context(), at(t, g), old); ok || err != nil {
		t.Errorf("a branch that was force-pushed descends: %v %v", ok, err)
	}
	// A repository that was lost is made anew, and knows its history again.
	fresh := u.open(nil)
	last := u.commit("more", nil)
	rev = at(t, fresh)
	if ok, err := fresh.Descends(t.Context(), rev, backwards); !ok || err != nil || rev.ID != last {
		t.Errorf("the history of a new clone is not known: %v %v", ok, err)
	}
}

func TestARepositoryBeyondTheBoundIsRefusedAndLeavesNothing(t *testing.T) {
	u := newUpstream(t)
	noise := make([]byte, 3<<20)
	f, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, noise); err != nil {
		t.Fatal(err)
	}
	u.commit("big", map[string]string{"noise": string(noise)})
	u.git(u.bare, "config", "uploadpack.allowFilter", "false") // all of it comes with the first fetch
	g := u.open(func(r *declare.Repository) { r.MaxSize = 1 << 20 })
	rev, err := g.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Fetch(t.Context(), rev); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("error %v", err)
	}
	var size int64
	filepath.WalkDir(g.Dir, func(_ string, d os.DirEntry, _ error) error {
		if info, err := d.Info(); err == nil && !d.IsDir() {
			size += info.Size()
		}
		return nil
	})
	if size > 1<<18 {
		t.Errorf("%d bytes are left", size)
	}
}

func TestAServerThatIsSilentIsGivenUp(t *testing.T) {
	u := newUpstream(t)
	u.commit("one", nil)
	g := u.open(nil)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, context.DeadlineExceeded)
	defer cancel()
	stuck := filepath.Join(t.TempDir(), "stuck")
	if out, err := exec.Command("mkfifo", stuck).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	os.Remove(filepath.Join(u.bare, "HEAD"))
	if err := os.Symlink(stuck, filepath.Join(u.bare, "HEAD")); err != nil { // whoever reads it waits for ever
		t.Fatal(err)
	}
	if _, err := g.Resolve(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestCredentialsAreInNoMessageAndOnNoCommandLine(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cr3t-t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := NewGit(filepath.Join(t.TempDir(), "git"), declare.Repository{URL: "http://127.0.0.1:9/a.git", Auth: declare.Auth{TokenFile: token}}.WithDefaults())
	env, err := g.environment()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(env, "\n"), "GIT_CONFIG_KEY_1=http.http://127.0.0.1:9/.extraHeader\nGIT_CONFIG_VALUE_1=Authorization: Basic ") {
		t.Errorf("no header in %q", env)
	}
	if got := g.redact("fatal: s3cr3t-t0ken and eC1hY2Nlc3MtdG9rZW46czNjcjN0LXQwa2Vu"); got != "fatal: *** and ***" {
		t.Errorf("redacted to %q", got)
	}
	_, err = g.Resolve(t.Context())
	if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error %v", err)
	}
}
