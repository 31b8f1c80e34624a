package place_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// The burst of a `git checkout`: 5,000 files in 100 folders, against cp -r of the same.
func BenchmarkBurst(b *testing.B) {
	f := newFixture(b)
	for i := range 5000 {
		f.write(fmt.Sprintf("%s/%02d/%d.go", f.src, i%100, i), fmt.Sprintf("package p // %4000d", i))
	}
	n := 0
	b.Run("place", func(b *testing.B) {
		for range b.N {
			n++
			if r := f.sync(fmt.Sprintf("/app%d", n)); r.Written != 5101 {
				b.Fatalf("%+v", r)
			}
		}
	})
	b.Run("cp", func(b *testing.B) {
		for range b.N {
			n++
			f.must(exec.Command("cp", "-r", f.src, fmt.Sprintf("%s/cp%d", f.root, n)).Run())
		}
	})
	f.must(os.RemoveAll(f.root))
}
