package bundle

import (
	"testing"

	"github.com/stack-run/stack/spec"
)

// BenchmarkMake is what a start costs before the runtime is asked.
func BenchmarkMake(b *testing.B) {
	in := input(&spec.Service{})
	for b.Loop() {
		if _, err := Make(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	in := input(&spec.Service{})
	in.Dir = b.TempDir()
	made, err := Make(in)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := made.Write(); err != nil {
			b.Fatal(err)
		}
	}
}
