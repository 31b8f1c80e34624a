package image_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

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
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		s := open(b)
		before := cpu()
		b.StartTimer()
		pull(b, s, reg.Ref("big:1"))
		b.StopTimer()
		used += cpu() - before
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
	b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/op") // on a busy machine the one figure to trust
}

// cpu is the time this process has computed.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
