package image_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "nginx:alpine", "localhost:5000/a/b:1", "a@sha256:" + string(bytes.Repeat([]byte("0"), 64)), "A", "", "[::1]:5000/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := image.ParseReference(s)
		if err != nil {
			if !errors.Is(err, image.ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		again, err := image.ParseReference(ref.String())
		if err != nil || again.String() != ref.String() || ref.Repository() != ref.Registry()+"/"+ref.Path() {
			t.Errorf("%q became %q, then %q (%v)", s, ref, again, err)
		}
		if short, err := image.ParseReference(ref.Familiar()); err != nil || short.String() != ref.String() {
			t.Errorf("%q is %q for short, which is %q (%v)", ref, ref.Familiar(), short, err)
		}
	})
}

// FuzzLoad holds that no archive writes outside the store, brings it down, or leaves a store that can't be used. Goroutines make
// coverage vary from run to run: fuzz with -fuzzminimizetime 1x, or all time goes into minimising.
func FuzzLoad(f *testing.F) {
	seed := registrytest.Tar(f, registrytest.Link("d", "../../.."), registrytest.File("d/escaped", "x"), registrytest.File("a/.wh.b", ""))
	f.Add(seed)
	f.Add(registrytest.Tar(f, registrytest.File("manifest.json", `[{"Config":"c","Layers":["l"]}]`), registrytest.File("l", string(seed)),
		registrytest.File("c", `{"rootfs":{"diff_ids":["sha256:`+string(bytes.Repeat([]byte("0"), 64))+`"]}}`)))
	f.Add(registrytest.Tar(f, registrytest.File("oci-layout", "{}"), registrytest.File("index.json", `{"manifests":[{"digest":"sha256:`+
		string(bytes.Repeat([]byte("0"), 64))+`","size":2}]}`)))
	root := filepath.Join(f.TempDir(), "images")
	s, err := image.Open(context.Background(), image.Options{Root: root, DockerConfig: f.TempDir(),
		Limits: image.Limits{LayerBytes: 1 << 20, LayerEntries: 1000}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, archive []byte) {
		images, err := s.Load(context.Background(), bytes.NewReader(archive), image.LoadOptions{Name: "fuzzed"})
		if err != nil && !errors.Is(err, image.ErrInvalid) && !errors.Is(err, image.ErrPlatform) {
			t.Errorf("%v", err)
		}
		for _, img := range images {
			if _, err := s.Get(context.Background(), img.ID, img.Platform); err != nil {
				t.Error(err)
			}
			if _, err := s.Remove(context.Background(), img.ID, true); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Lstat(filepath.Join(root, "escaped")); err == nil {
			t.Fatal("escaped")
		}
	})
}
