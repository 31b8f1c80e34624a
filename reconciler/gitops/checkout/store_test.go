package checkout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/reconciler/gitops/source"
)

// server has whatever a hostile one would send: git itself refuses to make some of it.
type server struct {
	files map[string]string // "-> x" is a symlink to x
	reads int
}

func id(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func (s *server) Entries(context.Context, source.Revision) ([]source.Entry, error) {
	entries := []source.Entry{{Mode: source.Folder, ID: "top"}}
	for name, text := range s.files {
		e := source.Entry{Path: name, ID: id(text)}
		if strings.HasPrefix(text, "-> ") {
			e.Mode = source.Symlink
		}
		if dir := path.Dir(name); dir != "." && filepath.IsLocal(dir) {
			entries = append(entries, source.Entry{Path: dir, Mode: source.Folder, ID: id("folder " + dir + text)})
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b source.Entry) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

func (s *server) Read(_ context.Context, _ source.Revision, entries []source.Entry, f func(source.Entry, int64, io.Reader) error) error {
	for _, e := range entries {
		s.reads++
		text := strings.TrimPrefix(s.files[e.Path], "-> ")
		if err := f(e, int64(len(text)), strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) Resolve(context.Context) (source.Revision, error) { return source.Revision{}, nil }
func (s *server) Fetch(_ context.Context, r source.Revision) (source.Revision, error) {
	return r, nil
}
func (s *server) Descends(context.Context, source.Revision, string) (bool, error) { return true, nil }
func (s *server) Clean(context.Context, source.Revision) error                    { return nil }
func (s *server) Signed(context.Context, source.Revision, bool) (_, _ []byte, err error) {
	return nil, nil, nil
}

func store(t *testing.T) *Store {
	return &Store{Dir: t.TempDir(), Name: "shop", MaxSize: 1 << 20}
}

func write(t *testing.T, s *Store, id string, previous *Tree, files map[string]string) (*Tree, *server) {
	t.Helper()
	src := &server{files: files}
	tree, err := s.Write(t.Context(), src, source.Revision{ID: id}, previous)
	if err != nil {
		t.Fatal(err)
	}
	return tree, src
}

func text(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestARevisionReplacesAnotherInOneStepAndReadsOnlyWhatIsNew(t *testing.T) {
	s := store(t)
	one, _ := write(t, s, "r1", nil, map[string]string{"compose.yaml": "1", "conf/a": "a", "link": "-> conf/a"})
	if err := s.Use(one); err != nil {
		t.Fatal(err)
	}
	two, src := write(t, s, "r2", one, map[string]string{"compose.yaml": "2", "conf/a": "a", "link": "-> conf/a"})
	if src.reads != 2 {
		t.Errorf("read %d entries, want the stack file and the symlink", src.reads)
	}
	if got := text(t, s.Current()+"/compose.yaml"); got != "1" {
		t.Errorf("before the switch: %q", got)
	}
	if err := s.Use(two); err != nil {
		t.Fatal(err)
	}
	if got := text(t, s.Current()+"/compose.yaml") + text(t, s.Current()+"/link"); got != "2a" {
		t.Errorf("after the switch: %q", got)
	}
	if again, err := s.Open("r2"); err != nil || again == nil || !slices.Equal(again.Files(), []string{"compose.yaml", "conf/a"}) {
		t.Errorf("opened %+v, %v", again, err)
	}
	if err := s.Prune([]string{"r2"}, nil); err != nil {
		t.Fatal(err)
	}
	if again, _ := s.Open("r1"); again != nil {
		t.Error("an old revision is left")
	}
}

func TestWhatLeadsOutOfTheRepositoryIsRefused(t *testing.T) {
	for situation, files := range map[string]map[string]string{
		"an absolute symlink":              {"a": "-> /etc/passwd"},
		"a symlink upwards":                {"a": "-> ../../../secret"},
		"a symlink through another one":    {"p/q/a": "-> ../..", "b": "-> p/q/a/../x"},
		"a path upwards":                   {"../a": "x"},
		"an absolute path":                 {"/a": "x"},
		"git's own folder":                 {"sub/.GIT/config": "x"},
		"a path that is not what it seems": {"a/./b": "x"},
		"a file in place of a folder":      {"a": "-> /tmp", "a/b": "x"},
	} {
		s := store(t)
		_, err := s.Write(t.Context(), &server{files: files}, source.Revision{ID: "r"}, nil)
		if err == nil || !errors.Is(err, source.ErrUnsafe) && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: error %v", situation, err)
		}
		if left, _ := os.ReadDir(s.revisions()); len(left) > 0 {
			t.Errorf("%s: %s is left", situation, left[0].Name())
		}
	}
	s := store(t)
	write(t, s, "r", nil, map[string]string{"dangling": "-> nowhere", "d/up": "-> ../a", "a": "x"}) // all within
}

func TestMoreThanTheBoundIsRefused(t *testing.T) {
	s := store(t)
	s.MaxSize = 10
	_, err := s.Write(t.Context(), &server{files: map[string]string{"a": "12345", "b": "123456"}}, source.Revision{ID: "r"}, nil)
	if !errors.Is(err, source.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
}

func TestAMountIsNamedByItsContentAndStaysAsLongAsItIsUsed(t *testing.T) {
	s := store(t)
	one, _ := write(t, s, "r1", nil, map[string]string{"conf/a": "a", "page": "1", "alias": "-> page"})
	two, _ := write(t, s, "r2", one, map[string]string{"conf/a": "a", "page": "2", "alias": "-> page"})
	mount := func(tree *Tree, rel string) string {
		t.Helper()
		file, _, err := s.Mount(tree, rel)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	if mount(one, "conf") != mount(two, "conf") || mount(one, "page") == mount(two, "page") || mount(one, "page") != mount(one, "alias") {
		t.Error("mounts don't follow the content")
	}
	if got := text(t, mount(one, "page")) + text(t, mount(two, "alias")) + text(t, mount(one, "conf")+"/a"); got != "12a" {
		t.Errorf("content %q", got)
	}
	// What a container writes is its own.
	if err := os.WriteFile(mount(two, "page"), []byte("written"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := text(t, two.Top+"/page"); got != "2" {
		t.Errorf("the checkout has %q", got)
	}
	if got, _, err := s.Mount(two, "state/db"); err != nil || got != filepath.Join(s.Dir, "data/state/db") {
		t.Errorf("what is not in the repository is at %s, %v", got, err)
	}
	if err := s.Prune(nil, map[string]bool{mount(one, "conf") + "/a": true}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(s.mounts())
	if err != nil || len(left) != 1 || left[0].Name() != filepath.Base(mount(one, "conf")) {
		t.Errorf("left %v, %v", left, err)
	}
}
