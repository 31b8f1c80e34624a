package image_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
	"github.com/stack-run/stack/runtime/image/rootmount"
)

// open opens a store in a folder of the test, closed with it.
func open(t testing.TB, change ...func(*image.Options)) *image.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "images"), change...)
}

func openAt(t testing.TB, root string, change ...func(*image.Options)) *image.Store {
	t.Helper()
	opts := image.Options{Root: root, DockerConfig: t.TempDir(), Logf: t.Logf}
	for _, c := range change {
		c(&opts)
	}
	s, err := image.Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func pull(t testing.TB, s *image.Store, ref string) image.Image {
	t.Helper()
	img, err := s.Pull(ctx(t), ref, image.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// ctx ends a test that hangs with an error that says where.
func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return c
}

// twoLayers is a small image whose second layer changes the first in all the ways there are.
func twoLayers(t testing.TB) v1.Image {
	t.Helper()
	bottom := registrytest.Tar(t,
		registrytest.Dir("etc", 0o755), registrytest.File("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
		registrytest.File("etc/gone", "old"), registrytest.File("etc/kept", "kept"),
		registrytest.Dir("opaque", 0o755), registrytest.File("opaque/old", "old"),
		registrytest.Dir("tmp", 0o1777), registrytest.Link("abs", "/etc/passwd"), registrytest.Link("out", "../../../../etc/passwd"),
	)
	top := registrytest.Tar(t,
		registrytest.File("etc/.wh.gone", ""), registrytest.File("etc/new", "new"),
		registrytest.Dir("opaque", 0o750), registrytest.File("opaque/.wh..wh..opq", ""), registrytest.File("opaque/new", "new"),
		registrytest.File("tmp/file", "in tmp"), registrytest.HardLink("etc/kept-too", "etc/kept"),
	)
	return registrytest.Image(t, v1.Config{Cmd: []string{"/bin/true"}, Env: []string{"A=b"}},
		registrytest.Layer(t, bottom), registrytest.Layer(t, top))
}

// mountRootfs mounts a container's root in the test's folder and returns it; unmounted with the test.
func mountRootfs(t testing.TB, s *image.Store, imageID, container string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), container)
	mounts, err := s.Rootfs(ctx(t), imageID, container, dir)
	if err != nil {
		t.Fatal(err)
	}
	return mountAt(t, mounts)
}

func mountAt(t testing.TB, mounts []image.Mount) string {
	t.Helper()
	target := t.TempDir()
	for _, m := range mounts {
		if err := rootmount.Mount(m.Type, m.Source, target, m.Options); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(target, 0); err != nil {
				t.Error(err)
			}
		})
	}
	return target
}

func contentOf(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// leftovers lists what a store keeps besides what belongs to recorded images: blobs, unfinished downloads, snapshots.
func leftovers(t testing.TB, root string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"content/blobs/*/*", "content/ingest/*", "overlay/snapshots/*", "native/snapshots/*", "unsynced/*", "views/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			list = append(list, strings.TrimPrefix(path, root+"/"))
		}
	}
	return list
}

func links(fi os.FileInfo) uint64 { return uint64(fi.Sys().(*syscall.Stat_t).Nlink) }

// described is a file's mode and owner.
func described(t testing.TB, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %d:%d", fi.Mode(), st.Uid, st.Gid)
}

func attribute(t testing.TB, path, name string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}
