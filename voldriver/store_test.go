package voldriver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/builtin"
)

var ctx = context.Background()

func open(t *testing.T, root string) *voldriver.Store {
	t.Helper()
	s, err := builtin.Open(voldriver.Options{Root: root, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ensure(t *testing.T, s *voldriver.Store, v voldriver.Volume) voldriver.Volume {
	t.Helper()
	v, _, err := s.Ensure(ctx, v)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEnsureMakesAVolumeOnce(t *testing.T) {
	s := open(t, t.TempDir())
	v, created, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Stack: "shop", Labels: map[string]string{"a": "b"}})
	if err != nil || !created || v.Driver != "local" || v.Created.IsZero() {
		t.Fatalf("%+v, %v, %v", v, created, err)
	}
	write(t, filepath.Join(v.Mountpoint, "kept"), "x")
	again, created, err := s.Ensure(ctx, voldriver.Volume{Name: "data"})
	if err != nil || created || again.Stack != "shop" || !again.Created.Equal(v.Created) {
		t.Errorf("again: %+v, %v, %v", again, created, err)
	}
	if _, err := os.Stat(filepath.Join(v.Mountpoint, "kept")); err != nil {
		t.Error(err)
	}
}

func TestEnsureTellsWhatDiffers(t *testing.T) {
	s := open(t, t.TempDir())
	ensure(t, s, voldriver.Volume{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}})
	_, _, err := s.Ensure(ctx, voldriver.Volume{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}})
	if !errors.Is(err, voldriver.ErrConflict) || !strings.Contains(err.Error(), `driver_opts.o is "size=1m", wanted "size=2m"`) {
		t.Error(err)
	}
}

func TestEnsureRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	for name, v := range map[string]voldriver.Volume{
		"a name that is a path":   {Name: "../x"},
		"a hidden name":           {Name: ".x"},
		"no name":                 {},
		"a driver there is not":   {Name: "x", Driver: "cloud"},
		"an option there is not":  {Name: "x", Options: map[string]string{"color": "red"}},
		"a type without a device": {Name: "x", Options: map[string]string{"type": "nfs"}},
		"a device without a type": {Name: "x", Options: map[string]string{"device": "/x"}},
		"a size without quotas":   {Name: "x", Options: map[string]string{"size": "1g"}},
		"only mount options":      {Name: "x", Options: map[string]string{"o": "bind"}},
	} {
		if _, _, err := s.Ensure(ctx, v); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if left, _ := os.ReadDir(s.Root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRecordsSurviveTheProcessAndTheMoveOfTheRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a")
	ensure(t, open(t, root), voldriver.Volume{Name: "data"})
	moved := root + "2"
	must(t, os.Rename(root, moved))
	list, err := open(t, moved).List()
	if err != nil || len(list) != 1 || list[0].Mountpoint != filepath.Join(moved, "data", "_data") {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestCrashLeftovers(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "half"), 0o755))                  // a folder was made, its record not
	must(t, os.MkdirAll(filepath.Join(root, ".removed-old", "_data"), 0o755)) // a removal was under way
	must(t, os.MkdirAll(filepath.Join(root, "lost", "_data"), 0o755))         // the record did not reach the disk
	write(t, filepath.Join(root, "lost", "_data", "precious"), "x")
	s := open(t, root)
	if _, err := os.Stat(filepath.Join(root, ".removed-old")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the removal was not finished: %v", err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	for _, name := range []string{"half", "lost"} {
		if _, created, err := s.Ensure(ctx, voldriver.Volume{Name: name}); err != nil || !created {
			t.Errorf("%s: %v, %v", name, created, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "lost", "_data", "precious")); err != nil {
		t.Errorf("data was lost: %v", err)
	}
}

func TestRemove(t *testing.T) {
	s := open(t, t.TempDir())
	v := ensure(t, s, voldriver.Volume{Name: "data"})
	write(t, filepath.Join(v.Mountpoint, "x"), "x")
	if _, err := s.Acquire(ctx, "data", "c1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "data"); !errors.Is(err, voldriver.ErrInUse) || !strings.Contains(err.Error(), "c1") {
		t.Errorf("in use: %v", err)
	}
	must(t, s.ReleaseUser(ctx, "c1"))
	must(t, s.Remove(ctx, "data"))
	if err := s.Remove(ctx, "data"); !errors.Is(err, voldriver.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if left, _ := os.ReadDir(s.Root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPruneTakesOnlyWhatIsChosenAndUnused(t *testing.T) {
	s := open(t, t.TempDir())
	for _, name := range []string{"used", "kept", "gone"} {
		v := ensure(t, s, voldriver.Volume{Name: name, Anonymous: name != "kept"})
		write(t, filepath.Join(v.Mountpoint, "x"), strings.Repeat("x", 100000))
	}
	if _, err := s.Acquire(ctx, "used", "c1"); err != nil {
		t.Fatal(err)
	}
	removed, freed, err := s.Prune(ctx, func(v voldriver.Volume) bool { return v.Anonymous })
	if err != nil || len(removed) != 1 || removed[0].Name != "gone" || freed < 100000 {
		t.Errorf("%v, %d, %v", removed, freed, err)
	}
}

func TestResolve(t *testing.T) {
	s := open(t, t.TempDir())
	v := ensure(t, s, voldriver.Volume{Name: "shop_data"})
	in := voldriver.Scope{Volumes: map[string]*spec.Volume{"data": {Name: "shop_data"}}, Stack: "shop", ContainerID: "c1"}

	m, err := s.Resolve(ctx, in, spec.Mount{Type: "volume", Source: "data", Target: "/d"})
	if err != nil || m.Source != v.Mountpoint || m.Volume != "shop_data" || !m.CopyUp {
		t.Errorf("named: %+v, %v", m, err)
	}
	if got := s.Users("shop_data"); !slices.Equal(got, []string{"c1"}) {
		t.Errorf("users: %v", got)
	}
	if m, err = s.Resolve(ctx, in, spec.Mount{Type: "volume", Source: "data", Target: "/d", NoCopy: true}); err != nil || m.CopyUp {
		t.Errorf("nocopy: %+v, %v", m, err)
	}
	if _, err = s.Resolve(ctx, in, spec.Mount{Type: "volume", Source: "other", Target: "/d"}); !errors.Is(err, voldriver.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err = s.Resolve(ctx, in, spec.Mount{Type: "npipe", Target: "/d"}); !errors.Is(err, voldriver.ErrUnsupported) {
		t.Errorf("unknown type: %v", err)
	}
	if err := s.Check(spec.Mount{Type: "tmpfs", Target: "d"}); err == nil {
		t.Error("a relative target is accepted")
	}

	first, err := s.Resolve(ctx, in, spec.Mount{Type: "volume", Target: "/anonymous"})
	must(t, err)
	again, err := s.Resolve(ctx, in, spec.Mount{Type: "volume", Target: "/anonymous/"})
	if err != nil || again.Volume != first.Volume {
		t.Errorf("anonymous: %v, then %v, %v", first, again, err)
	}
	in.ContainerID, in.Anonymous = "c2", map[string]string{"/anonymous": first.Volume}
	if taken, err := s.Resolve(ctx, in, spec.Mount{Type: "volume", Target: "/anonymous"}); err != nil || taken.Volume != first.Volume {
		t.Errorf("taken over: %v, %v", taken, err)
	}
	in.Anonymous["/anonymous"] = "gone"
	if made, err := s.Resolve(ctx, in, spec.Mount{Type: "volume", Target: "/anonymous"}); err != nil || made.Volume == first.Volume {
		t.Errorf("of which the old one is gone: %v, %v", made, err)
	}
}
