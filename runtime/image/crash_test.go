package image_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if root, ref := os.Getenv("PULL_ROOT"), os.Getenv("PULL_REF"); root != "" {
		s, err := image.Open(context.Background(), image.Options{Root: root, DockerConfig: root})
		if err == nil {
			_, err = s.Pull(context.Background(), ref, image.PullOptions{})
		}
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestKilledAtAnyMomentThenWhole(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	var layers []v1.Layer
	for i := range 4 {
		layers = append(layers, registrytest.Layer(t, registrytest.Bulk(t, fmt.Sprint("layer", i), uint64(i), 30, 100_000)))
	}
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layers...))
	root := filepath.Join(t.TempDir(), "images")
	for range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PULL_ROOT="+root, "PULL_REF="+reg.Ref("app:1"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond) // the moment is the point: any will do
		cmd.Process.Kill()
		cmd.Wait()
	}
	s := openAt(t, root)
	img := pull(t, s, reg.Ref("app:1"))
	checkBulk(t, mountRootfs(t, s, img.ID, "c"), 4, 30, 100_000)
	if _, err := s.Remove(ctx(t), img.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func checkBulk(t *testing.T, root string, layers, files, size int) {
	t.Helper()
	for i := range layers {
		found, err := os.ReadDir(filepath.Join(root, fmt.Sprint("layer", i)))
		if err != nil || len(found) != files {
			t.Errorf("layer %d has %d files, %v", i, len(found), err)
		}
		for _, f := range found {
			if fi, err := f.Info(); err != nil || fi.Size() != int64(size) {
				t.Errorf("%s has %d bytes, %v", f.Name(), fi.Size(), err)
			}
		}
	}
}

func TestPowerFailureDropsWhatWasNotSynced(t *testing.T) {
	root := filepath.Join(t.TempDir(), "images")
	s := openAt(t, root)
	img, err := loadLayers(t, s, registrytest.Tar(t, registrytest.File("a", "a")), registrytest.Tar(t, registrytest.File("b", "b")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// As it is found after another boot: the record still there, the files as the disk happened to have them.
	chains := []string{img.ChainID}
	record, err := json.Marshal(map[string]any{"boot": "another", "chains": chains})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "unsynced/pull-1.json"), record, 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "overlay/snapshots/*/fs/b"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 0); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root)
	if got, err := s.Get(ctx(t), img.ID, ""); err != nil || got.ChainID != img.ChainID {
		t.Errorf("the image is gone: %v", err)
	}
	rootfs := mountRootfs(t, s, img.ID, "c")
	if contentOf(t, rootfs, "a") != "a" || contentOf(t, rootfs, "b") != "b" {
		t.Error("the image is damaged")
	}
	if _, err := s.Prune(ctx(t), false); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Rootfs(ctx(t), img.ID, "d", t.TempDir()); err != nil || len(again) != 1 {
		t.Errorf("after a collection: %v, %v", again, err)
	}
}

func TestStoreOfAnotherSnapshotterIsUnpackedAnew(t *testing.T) {
	root := filepath.Join(t.TempDir(), "images")
	s := openAt(t, root)
	img, err := loadLayers(t, s, registrytest.Tar(t, registrytest.File("a", "a")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, func(o *image.Options) { o.Snapshotter = "native" })
	if got := contentOf(t, mountRootfs(t, s, img.ID, "c"), "a"); got != "a" {
		t.Errorf("a holds %q", got)
	}
	if err := s.ReleaseRootfs(ctx(t), "c", ""); err != nil {
		t.Error(err)
	}
}

func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=12m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// containerd's check for fs-verity leaves a file open until it is collected.
		for try := 0; ; try++ {
			err := unix.Unmount(disk, 0)
			if err == nil || try == 100 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			runtime.GC()
		}
	})
	reg := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "small:1", twoLayers(t))
	reg.Push(t, "big:1", registrytest.Image(t, v1.Config{}, bigLayer(t, 2<<20), bigLayer(t, 9<<20)))
	unpacksBig := registrytest.Image(t, v1.Config{}, registrytest.Layer(t, registrytest.Tar(t, registrytest.File("zeros", strings.Repeat("\x00", 20<<20)))))
	reg.Push(t, "zeros:1", unpacksBig)
	root := filepath.Join(disk, "images")
	s := openAt(t, root)
	small := pull(t, s, reg.Ref("small:1"))
	before := leftovers(t, root)
	for _, name := range []string{"big:1", "zeros:1"} {
		_, err := s.Pull(ctx(t), reg.Ref(name), image.PullOptions{})
		if !errors.Is(err, image.ErrNoSpace) || !strings.Contains(err.Error(), "free space") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := s.Load(ctx(t), bytes.NewReader(craneArchive(t, "example.com/big:1", unpacksBig)), image.LoadOptions{})
	if !errors.Is(err, image.ErrNoSpace) {
		t.Errorf("load: %v", err)
	}
	checkTwoLayers(t, mountRootfs(t, s, small.ID, "c"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := leftovers(t, root)
	if len(after) > len(before) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

func TestManyLayers(t *testing.T) {
	s := open(t)
	var layers [][]byte
	for i := range 120 {
		layers = append(layers, registrytest.Tar(t, registrytest.File(fmt.Sprint("f", i), "x"), registrytest.File("last", fmt.Sprint(i))))
	}
	img, err := loadLayers(t, s, layers...)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := s.Rootfs(ctx(t), img.ID, "c", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Join(mounts[0].Options, ",")); n < unix.Getpagesize() {
		t.Fatalf("the options have %d bytes, too few for this test", n)
	}
	root := mountAt(t, mounts)
	found, err := os.ReadDir(root)
	if err != nil || len(found) != 121 || contentOf(t, root, "last") != "119" {
		t.Errorf("%d files, %v", len(found), err)
	}
	if body, err := s.ReadFile(ctx(t), img.ID, "last"); err != nil || string(body) != "119" {
		t.Errorf("read %q, %v", body, err)
	}
}

func TestFolderOfASnapshotNeverMade(t *testing.T) {
	for _, snapshotter := range []string{"overlay", "native"} {
		root := filepath.Join(t.TempDir(), "images")
		use := func(o *image.Options) { o.Snapshotter = snapshotter }
		if err := openAt(t, root, use).Close(); err != nil {
			t.Fatal(err)
		}
		// What a kill between the rename and the commit leaves, and the record of the pull that was cut off.
		for _, dir := range []string{snapshotter + "/snapshots/1/fs/stray", snapshotter + "/snapshots/new-1/fs", "content/ingest/1", "unsynced"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(root, "unsynced/pull-1.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, root, use)
		img, err := loadLayers(t, s, registrytest.Tar(t, registrytest.File("a", "a")), registrytest.Tar(t, registrytest.File("b", "b")))
		if err != nil {
			t.Fatalf("%s: %v", snapshotter, err)
		}
		found, err := os.ReadDir(mountRootfs(t, s, img.ID, "c"))
		if err != nil || len(found) != 2 {
			t.Errorf("%s: %v, %v", snapshotter, found, err)
		}
		if err := s.ReleaseRootfs(ctx(t), "c", t.TempDir()); err != nil {
			t.Error(err)
		}
		if _, err := s.Remove(ctx(t), img.ID, false); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if left := leftovers(t, root); len(left) != 0 {
			t.Errorf("%s left behind: %v", snapshotter, left)
		}
	}
}

func TestSpoiltBeginningIsFetchedAnew(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	layer := bigLayer(t, 3<<20)
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layer))
	proxy := reg.Proxy(t)
	proxy.OnBlob(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, digestOf(t, layer)) {
			proxy.StallAfter(w, r, 2<<20)
			return
		}
		next.ServeHTTP(w, r)
	})
	root := filepath.Join(t.TempDir(), "images")
	s := openAt(t, root)
	c, cancel := context.WithCancel(ctx(t))
	_, err := s.Pull(c, proxy.Ref("app:1"), image.PullOptions{Progress: func(p image.Progress) {
		if p.Phase == "downloading" && p.Done >= 1<<20 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Glob(filepath.Join(root, "content/ingest/*/data"))
	if err != nil || len(data) != 1 {
		t.Fatal(data, err)
	}
	f, err := os.OpenFile(data[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Zeros where the disk had not got the bytes yet.
	_, err = f.WriteAt(make([]byte, 64<<10), 512<<10)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	proxy.OnBlob(nil)
	s = openAt(t, root)
	img := pull(t, s, proxy.Ref("app:1"))
	if got := contentOf(t, mountRootfs(t, s, img.ID, "c"), "big"); len(got) != 3<<20 {
		t.Errorf("big has %d bytes", len(got))
	}
}
