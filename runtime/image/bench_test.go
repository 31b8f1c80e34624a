package image_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/stack-run/stack/runtime/image/registrytest"
)

// BenchmarkPull pulls 8 layers, 220 MB packed and 550 MB unpacked in 12,000 files, from a registry on loopback.
func BenchmarkPull(b *testing.B) {
	reg := registrytest.Start(b, registrytest.Options{})
	layers := make([]v1.Layer, 8)
	for i := range layers {
		layers[i] = registrytest.Layer(b, registrytest.Bulk(b, "layer"+strconv.Itoa(i), uint64(i), 1500, 46_000))
	}
	img := registrytest.Image(b, v1.Config{}, layers...)
	reg.Push(b, "big:1", img)
	for b.Loop() {
		b.StopTimer()
		s := open(b)
		b.StartTimer()
		pull(b, s, reg.Ref("big:1"))
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	var size int64
	for _, l := range layers {
		n, _ := l.Size()
		size += n
	}
	b.ReportMetric(float64(size)/1e6, "packed-MB")
}

// BenchmarkRootfs is what each container's start costs here.
func BenchmarkRootfs(b *testing.B) {
	reg := registrytest.Start(b, registrytest.Options{})
	layers := make([]v1.Layer, 8)
	for i := range layers {
		layers[i] = registrytest.Layer(b, registrytest.Bulk(b, "layer"+strconv.Itoa(i), uint64(i), 2, 100))
	}
	reg.Push(b, "app:1", registrytest.Image(b, v1.Config{}, layers...))
	s := open(b)
	img := pull(b, s, reg.Ref("app:1"))
	dir := b.TempDir()
	n := 0
	for b.Loop() {
		n++
		id := strconv.Itoa(n)
		if _, err := s.Rootfs(ctx(b), img.ID, id, filepath.Join(dir, id)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGet is what an `up` with nothing to do asks per service.
func BenchmarkGet(b *testing.B) {
	reg := registrytest.Start(b, registrytest.Options{})
	s := open(b)
	for i := range 50 {
		name := "app" + strconv.Itoa(i) + ":1"
		reg.Push(b, name, registrytest.Image(b, v1.Config{Labels: map[string]string{"n": name}}))
		pull(b, s, reg.Ref(name))
	}
	c := ctx(b)
	for b.Loop() {
		if _, err := s.Get(c, reg.Ref("app7:1"), ""); err != nil {
			b.Fatal(err)
		}
	}
}
