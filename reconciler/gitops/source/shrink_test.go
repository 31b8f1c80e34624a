package source

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// taken is how much of the disk a repository takes.
func taken(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func noise(t *testing.T, size int) string {
	t.Helper()
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhatRefusedCommitsBroughtIsThrownAwayAndTheBranchIsJudgedAsBefore(t *testing.T) {
	u := newUpstream(t)
	u.commit("base", nil)
	used := u.commit("used", map[string]string{"a": "1"})
	const bound = 1 << 20
	g := u.open(func(r *declare.Repository) { r.MaxSize = bound })
	rev := at(t, g)
	if got := content(t, g, rev); got["a"] != "1" {
		t.Fatalf("read %v", got)
	}
	if err := g.Clean(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	largest := int64(0)
	for range 12 { // each is fetched, read, and used by nobody
		u.git(u.work, "reset", "-q", "--hard", used)
		u.commit("refused", map[string]string{"noise": noise(t, bound*3/4)})
		if got := content(t, g, at(t, g)); len(got) != 2 {
			t.Fatalf("read %d files", len(got))
		}
		largest = max(largest, taken(t, g.Dir))
	}
	if largest > (crowded+3)*bound {
		t.Errorf("%d bytes at the most", largest)
	}
	// It takes no server, and what is in use can be read again.
	if err := os.Rename(u.bare, u.bare+".away"); err != nil {
		t.Fatal(err)
	}
	if err := g.keepUsed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := taken(t, g.Dir); n > bound/4 {
		t.Errorf("%d bytes are kept of a revision with one small file", n)
	}
	if got := content(t, g, rev); len(got) != 1 || got["a"] != "1" {
		t.Errorf("read %v", got)
	}
	if err := os.Rename(u.bare+".away", u.bare); err != nil {
		t.Fatal(err)
	}

	u.git(u.work, "reset", "-q", "--hard", used+"~1")
	u.git(u.work, "push", "-q", "-f", "origin", "main")
	if ok, err := g.Descends(t.Context(), at(t, g), used); ok || err != nil {
		t.Errorf("a branch that was moved backwards descends: %v %v", ok, err)
	}
	u.commit("instead", map[string]string{"a": "2"})
	if ok, err := g.Descends(t.Context(), at(t, g), used); ok || err != nil {
		t.Errorf("a branch that was force-pushed descends: %v %v", ok, err)
	}
	u.git(u.work, "reset", "-q", "--hard", used)
	u.commit("between", map[string]string{"a": "3"})
	next := u.commit("next", map[string]string{"a": "4"})
	rev = at(t, g)
	if ok, err := g.Descends(t.Context(), rev, used); !ok || err != nil || rev.ID != next {
		t.Errorf("a branch that went on does not descend: %v %v", ok, err)
	}
	if got := content(t, g, rev); len(got) != 1 || got["a"] != "4" {
		t.Errorf("read %v", got)
	}
}

func TestARepositoryOfWhichNothingWasEverUsedIsBoundedToo(t *testing.T) {
	u := newUpstream(t)
	g := u.open(func(r *declare.Repository) { r.MaxSize = 1 << 20 })
	for range 12 {
		u.commit("refused", map[string]string{"noise": noise(t, 3<<18)})
		at(t, g)
		content(t, g, at(t, g))
		if n := taken(t, g.Dir); n > (crowded+3)<<20 {
			t.Fatalf("%d bytes", n)
		}
	}
}

func TestASignedTagIsKeptWithItsCommit(t *testing.T) {
	u := newUpstream(t)
	u.commit("one", map[string]string{"a": "1"})
	u.git(u.work, "tag", "-a", "-m", "signed, say", "v1")
	u.commit("two", nil)
	g := u.open(func(r *declare.Repository) { r.Ref = declare.Ref{Tag: "v1"} })
	rev := at(t, g)
	if err := g.Clean(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if err := g.keepUsed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(u.bare); err != nil {
		t.Fatal(err)
	}
	if payload, _, err := g.Signed(t.Context(), rev, true); err != nil || !strings.Contains(string(payload), "signed, say") {
		t.Errorf("the tag is %q: %v", payload, err)
	}
}

// measured puts a program before git that notes how much memory it took, with all that it ran; largest is the most so far, in KiB.
// The kernel counts a child from the fork on: as a child of this program it would be as large as the tests are.
func measured(t *testing.T) (largest func() int) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/usr/bin/python3
import resource, subprocess, sys
code = subprocess.run([%q] + sys.argv[1:]).returncode
with open(%q, "a") as f: f.write("%%d\n" %% resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code if code >= 0 else 1)
`, git, filepath.Join(dir, "notes"))
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() (most int) {
		t.Helper()
		notes, err := os.ReadFile(filepath.Join(dir, "notes"))
		if err != nil {
			t.Fatal(err)
		}
		for note := range strings.FieldsSeq(string(notes)) {
			kib, err := strconv.Atoi(note)
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, kib)
		}
		return most
	}
}

func TestAFileThatPacksWellTakesNoMemory(t *testing.T) {
	u := newUpstream(t)
	for _, dir := range []string{u.bare, u.work} { // the server is one of the programs that git runs
		u.git(dir, "config", "core.bigFileThreshold", "1m")
		u.git(dir, "config", "core.compression", "1")
	}
	const size = 160 << 20
	zeros := filepath.Join(u.work, "zeros")
	if err := errors.Join(os.WriteFile(zeros, nil, 0o644), os.Truncate(zeros, size)); err != nil {
		t.Fatal(err)
	}
	u.commit("a few KB", nil)
	largest := measured(t)
	g := u.open(nil)
	rev := at(t, g)
	entries, err := g.Entries(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	var told int64
	err = g.Read(t.Context(), rev, entries[1:], func(_ Entry, size int64, _ io.Reader) error { told = size; return ErrTooLarge })
	if !errors.Is(err, ErrTooLarge) || told != size {
		t.Errorf("%d bytes: %v", told, err)
	}
	if kib := largest(); kib > size/2>>10 || kib == 0 {
		t.Errorf("git took %d KiB of memory", kib)
	}
}
