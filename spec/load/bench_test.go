package load

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fiveHundred is a stack file of 500 services of which the first has a variable.
func fiveHundred(value int) string {
	var content strings.Builder
	content.WriteString("name: bench\nservices:\n")
	for i := range 500 {
		fmt.Fprintf(&content, "  s%d: {image: tiny, command: [/busybox, sleep, infinity], init: false, stop_grace_period: 0s}\n", i)
	}
	return strings.Replace(content.String(), "init: false", fmt.Sprintf("init: false, environment: {V: %d}", value), 1)
}

func BenchmarkLoadOf500Services(b *testing.B) {
	dir := files{"compose.yaml": fiveHundred(0)}.write(b)
	for b.Loop() {
		if _, err := Load(b.Context(), Options{WorkingDir: dir}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadOfOneChangeAmong500Services(b *testing.B) {
	dir, store := files{"compose.yaml": fiveHundred(0)}.write(b), b.TempDir()
	waitSettled(b, dir)
	if _, err := Cached(b.Context(), store, "1", Options{WorkingDir: dir}); err != nil {
		b.Fatal(err)
	}
	for i := 1; b.Loop(); i++ {
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(fiveHundred(i)), 0o644); err != nil {
			b.Fatal(err)
		}
		if r, err := Cached(b.Context(), store, "1", Options{WorkingDir: dir}); err != nil || r.project != nil {
			b.Fatalf("loaded as a whole: %v, %v", r, err)
		}
	}
}
