package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

func TestPullMakesAnImageThatRuns(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	digest := reg.Push(t, "app:1", twoLayers(t))
	for _, snapshotter := range []string{"overlay", "native"} {
		t.Run(snapshotter, func(t *testing.T) {
			s := open(t, func(o *image.Options) { o.Snapshotter = snapshotter })
			img := pull(t, s, reg.Ref("app:1"))
			if img.Digest != digest || img.Platform != "linux/amd64" || len(img.Layers) != 2 ||
				!slices.Equal(img.Names, []string{reg.Ref("app:1")}) || !slices.Equal(img.RepoDigests, []string{reg.Ref("app@" + digest)}) {
				t.Errorf("pulled %+v", img)
			}
			if !slices.Equal(img.Config.Cmd, []string{"/bin/true"}) || !slices.Equal(img.Config.Env, []string{"A=b"}) {
				t.Errorf("config %+v", img.Config)
			}
			root := mountRootfs(t, s, img.ID, "c1")
			checkTwoLayers(t, root)
			if err := os.WriteFile(filepath.Join(root, "etc/kept"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := contentOf(t, mountRootfs(t, s, img.ID, "c2"), "etc/kept"); got != "kept" {
				t.Errorf("one container's write shows in another: %q", got)
			}
			if err := s.ReleaseRootfs(ctx(t), "c2", t.TempDir()); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkTwoLayers looks at what twoLayers must look like when mounted.
func checkTwoLayers(t *testing.T, root string) {
	t.Helper()
	for path, want := range map[string]string{"etc/new": "new", "etc/kept": "kept", "etc/kept-too": "kept", "opaque/new": "new", "tmp/file": "in tmp"} {
		if got := contentOf(t, root, path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	for _, gone := range []string{"etc/gone", "opaque/old", "etc/.wh.gone", "opaque/.wh..wh..opq"} {
		if _, err := os.Lstat(filepath.Join(root, gone)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", gone, err)
		}
	}
	for path, want := range map[string]os.FileMode{"tmp": os.ModeDir | os.ModeSticky | 0o777, "opaque": os.ModeDir | 0o750, ".": os.ModeDir | 0o755} {
		fi, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode(), want)
		}
	}
	a, errA := os.Stat(filepath.Join(root, "etc/kept"))
	b, errB := os.Stat(filepath.Join(root, "etc/kept-too"))
	if errA != nil || errB != nil || a.Sys().(*syscall.Stat_t).Ino != b.Sys().(*syscall.Stat_t).Ino {
		t.Errorf("the hard link into the lower layer is a file of its own (%v, %v)", errA, errB)
	}
}

func TestRootfsIsTheSameEachTime(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "app:1", twoLayers(t))
	s := open(t)
	img := pull(t, s, reg.Ref("app:1"))
	dir := t.TempDir()
	first, err := s.Rootfs(ctx(t), img.ID, "c", dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "upper/kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := s.Rootfs(ctx(t), img.ID, "c", dir)
	if err != nil || !slices.EqualFunc(first, again, func(a, b image.Mount) bool { return slices.Equal(a.Options, b.Options) }) {
		t.Errorf("%v, %v (%v)", first, again, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "upper/kept")); err != nil {
		t.Error(err)
	}
	if err := s.ReleaseRootfs(ctx(t), "c", dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("released, but %v is left", left)
	}
}

func TestImagesOutliveTheProcess(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "app:1", twoLayers(t))
	root := filepath.Join(t.TempDir(), "images")
	s := openAt(t, root)
	pulled := pull(t, s, reg.Ref("app:1"))
	if _, err := image.Open(ctx(t), image.Options{Root: root}); !errors.Is(err, image.ErrLocked) {
		t.Errorf("a second process got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root)
	got, err := s.Get(ctx(t), reg.Ref("app:1"), "")
	if err != nil || got.ID != pulled.ID || got.ChainID != pulled.ChainID || !got.Pulled.Equal(pulled.Pulled) {
		t.Errorf("got %+v, %v; pulled %+v", got, err, pulled)
	}
	checkTwoLayers(t, mountRootfs(t, s, got.ID, "c"))
}

func TestPullsOfTheSameImageShareTheWork(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	base := registrytest.Layer(t, registrytest.Bulk(t, "base", 1, 20, 50_000))
	for _, name := range []string{"a", "b"} {
		own := registrytest.Layer(t, registrytest.Tar(t, registrytest.File(name, name)))
		reg.Push(t, name+":1", registrytest.Image(t, v1.Config{}, base, own))
	}
	proxy := reg.Proxy(t)
	s := open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.Pull(ctx(t), proxy.Ref([]string{"a:1", "b:1"}[i%2]), image.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// Two configs, two layers of their own, one shared.
	if n := len(proxy.Ranges()); n != 5 {
		t.Errorf("%d blobs were fetched, want 5", n)
	}
}

func TestPullAgainFetchesNothing(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "app:1", twoLayers(t))
	proxy := reg.Proxy(t)
	s := open(t)
	first := pull(t, s, proxy.Ref("app:1"))
	before := len(proxy.Ranges())
	var phases []string
	again, err := s.Pull(ctx(t), proxy.Ref("app:1"), image.PullOptions{Progress: func(p image.Progress) { phases = append(phases, p.Phase) }})
	if err != nil || again.ID != first.ID {
		t.Fatalf("%+v, %v", again, err)
	}
	if len(proxy.Ranges()) != before || !slices.Equal(phases, []string{"resolving", "exists"}) {
		t.Errorf("%d more fetched, phases %v", len(proxy.Ranges())-before, phases)
	}
}

func TestPlatforms(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	var idx v1.ImageIndex = empty.Index
	for _, arch := range []string{"arm64", "amd64"} {
		img := registrytest.Image(t, v1.Config{Labels: map[string]string{"arch": arch}}, registrytest.Layer(t, registrytest.Tar(t, registrytest.File("arch", arch))))
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		file.Architecture = arch
		if img, err = mutate.ConfigFile(img, file); err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	digest := reg.PushIndex(t, "app:1", idx)
	s := open(t)
	for _, platform := range []string{"linux/arm64", "linux/amd64", "linux/arm64/v8"} {
		img, err := s.Pull(ctx(t), reg.Ref("app:1"), image.PullOptions{Platform: platform})
		if err != nil {
			t.Fatal(err)
		}
		arch := strings.Split(platform, "/")[1]
		if img.Config.Labels["arch"] != arch || img.Digest != digest {
			t.Errorf("%s: %+v", platform, img)
		}
		if got := contentOf(t, mountRootfs(t, s, img.ID, "c"), "arch"); got != arch {
			t.Errorf("%s holds %s", platform, got)
		}
		if got, err := s.Get(ctx(t), reg.Ref("app:1"), platform); err != nil || got.ID != img.ID {
			t.Errorf("%s: got %+v, %v", platform, got, err)
		}
	}
	if got, err := s.Get(ctx(t), reg.Ref("app:1"), ""); err != nil || got.Platform != "linux/amd64" {
		t.Errorf("without a platform: %+v, %v", got, err)
	}
	if _, err := s.Get(ctx(t), reg.Ref("app:1"), "linux/s390x"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("one that is not here: %v", err)
	}
	if list, err := s.List(ctx(t)); err != nil || len(list) != 2 {
		t.Errorf("listed %+v, %v", list, err)
	}
}

func TestCredentialHelper(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{Login: true})
	reg.Push(t, "app:1", twoLayers(t))
	dir := t.TempDir()
	helper := "#!/bin/sh\n[ \"$1\" = get ] && echo '{\"ServerURL\": \"'$(cat)'\", \"Username\": \"" + registrytest.Username + "\", \"Secret\": \"" + registrytest.Password + "\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-fortest"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	config := `{"credHelpers": {"` + reg.Addr + `": "fortest"}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	pull(t, open(t, func(o *image.Options) { o.DockerConfig = dir }), reg.Ref("app:1"))
}
