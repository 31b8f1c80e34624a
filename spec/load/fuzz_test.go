package load

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

// Whatever is in a stack file, loading it ends with a stack or with diagnostics.
func FuzzLoad(f *testing.F) {
	cases, err := filepath.Glob(filepath.Join("testdata", "diagnostics", "*", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		content, err := os.ReadFile(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(shop))
	f.Add([]byte("a: &a [*a]\nservices: {web: {image: x, ports: *a}}"))
	f.Add([]byte("<<: &x {services: {a: *x}}"))
	f.Add([]byte("services: {web: {image: x, volumes: [a:b:c:d:e], ports: ['1-9:3'], extra_hosts: [a]}}"))
	f.Add([]byte("services: {? [a] : b}\n---\nservices: !reset {}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		src := &source{dir: dir, env: map[string]string{"A": "b"}, inputs: inputs{}, name: "fuzz",
			files: []sourceFile{{name: filepath.Join(dir, "compose.yaml"), content: content}}}
		done := make(chan error, 1)
		go func() {
			_, err := src.load(context.Background(), Options{WorkingDir: dir}, time.Now())
			done <- err
		}()
		var ds spec.Diagnostics
		select {
		case err := <-done:
			if err != nil && !errors.As(err, &ds) {
				t.Errorf("the error is a %T: %v", err, err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the load does not end")
		}
	})
}
