package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

func TestRemoveFollowsDocker(t *testing.T) {
	used := map[string][]string{}
	root := filepath.Join(t.TempDir(), "images")
	s := openAt(t, root, func(o *image.Options) { o.InUse = func(id string) []string { return used[id] } })
	a, err := loadLayers(t, s, registrytest.Tar(t, registrytest.File("a", "a")))
	if err != nil {
		t.Fatal(err)
	}
	name := a.Names[0]
	for _, other := range []string{"example.com/hostile:2", "other:1"} {
		if err := s.Tag(ctx(t), name, other); err != nil {
			t.Fatal(err)
		}
	}
	used[a.ID] = []string{"service.web[1]"}

	report, err := s.Remove(ctx(t), name, false)
	if err != nil || !slices.Equal(report.Untagged, []string{name}) || report.Deleted != nil {
		t.Errorf("one of several names of a used image: %+v, %v", report, err)
	}
	_, err = s.Remove(ctx(t), a.ID, false)
	if !errors.Is(err, image.ErrInUse) || !strings.Contains(err.Error(), "several repositories") {
		t.Errorf("by ID, with names in two repositories: %v", err)
	}
	if _, err := s.Remove(ctx(t), "other:1", false); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Remove(ctx(t), "example.com/hostile:2", false); !errors.Is(err, image.ErrInUse) || !strings.Contains(err.Error(), "service.web[1]") {
		t.Errorf("the last name of a used image: %v", err)
	}
	report, err = s.Remove(ctx(t), "example.com/hostile:2", true)
	if err != nil || !slices.Equal(report.Untagged, []string{"example.com/hostile:2"}) || report.Deleted != nil {
		t.Errorf("forced: %+v, %v", report, err)
	}
	if got, err := s.Get(ctx(t), a.ID[:20], ""); err != nil || len(got.Names) != 0 {
		t.Errorf("a used image without names: %+v, %v", got, err)
	}
	if report, err := s.Prune(ctx(t), true); err != nil || report.Deleted != nil {
		t.Errorf("pruned a used image: %+v, %v", report, err)
	}
	delete(used, a.ID)
	report, err = s.Prune(ctx(t), false)
	if err != nil || !slices.Equal(report.Deleted, []string{a.ID}) {
		t.Errorf("pruned %+v, %v", report, err)
	}
	if left := leftovers(t, root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRemoveKeepsWhatOthersShare(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	base := registrytest.Layer(t, registrytest.Tar(t, registrytest.File("base", "base")))
	for _, name := range []string{"a", "b"} {
		reg.Push(t, name+":1", registrytest.Image(t, v1.Config{}, base, registrytest.Layer(t, registrytest.Tar(t, registrytest.File(name, name)))))
	}
	s := open(t)
	pull(t, s, reg.Ref("a:1"))
	b := pull(t, s, reg.Ref("b:1"))
	if _, err := s.Remove(ctx(t), reg.Ref("a:1"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx(t), reg.Ref("a:1"), false); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	root := mountRootfs(t, s, b.ID, "c")
	if contentOf(t, root, "base") != "base" || contentOf(t, root, "b") != "b" {
		t.Error("b lost something")
	}
}

func TestMovedTagLeavesTheOldImage(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	s := open(t)
	version := func(n string) image.Image {
		digest := reg.Push(t, "app:latest", registrytest.Image(t, v1.Config{}, registrytest.Layer(t, registrytest.Tar(t, registrytest.File("version", n)))))
		if got, err := s.Resolve(ctx(t), reg.Ref("app"), ""); err != nil || got != digest {
			t.Errorf("resolved to %s, %v; pushed %s", got, err, digest)
		}
		return pull(t, s, reg.Ref("app"))
	}
	old, now := version("1"), version("2")
	got, err := s.Get(ctx(t), reg.Ref("app"), "")
	if err != nil || got.ID != now.ID || now.ID == old.ID {
		t.Errorf("the tag points to %s, %v", got.ID, err)
	}
	got, err = s.Get(ctx(t), old.ID, "")
	if err != nil || len(got.Names) != 0 || !slices.Equal(got.RepoDigests, old.RepoDigests) {
		t.Errorf("the old image is %+v, %v", got, err)
	}
	if contentOf(t, mountRootfs(t, s, old.ID, "c"), "version") != "1" {
		t.Error("the old image holds something else")
	}
	report, err := s.Prune(ctx(t), false)
	if err != nil || !slices.Equal(report.Deleted, []string{old.ID}) {
		t.Errorf("pruned %+v, %v", report, err)
	}
	if list, err := s.List(ctx(t)); err != nil || len(list) != 1 || list[0].ID != now.ID {
		t.Errorf("left %+v, %v", list, err)
	}
}

func TestRemoveFreesTheDisk(t *testing.T) {
	for _, snapshotter := range []string{"overlay", "native"} {
		root := filepath.Join(t.TempDir(), "images")
		s := openAt(t, root, func(o *image.Options) { o.Snapshotter = snapshotter })
		img, err := loadLayers(t, s, registrytest.Tar(t, registrytest.File("a", "a")), registrytest.Tar(t, registrytest.File("b", "b")))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := s.Rootfs(ctx(t), img.ID, "c", dir); err != nil {
			t.Fatal(err)
		}
		if err := s.ReleaseRootfs(ctx(t), "c", dir); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Remove(ctx(t), img.ID, false); err != nil {
			t.Fatal(err)
		}
		left := slices.DeleteFunc(leftovers(t, root), func(path string) bool { return strings.HasPrefix(path, "unsynced/") })
		if len(left) != 0 {
			t.Errorf("%s left behind: %v", snapshotter, left)
		}
		if _, err := os.Stat(filepath.Join(dir, "upper")); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}
