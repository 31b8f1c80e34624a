package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

// A cached load must never differ from a fresh one, whatever changed in between.
func TestCachedLoadsSeeEveryChange(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string, o *Options){
		"nothing":                  func(*testing.T, string, *Options) {},
		"the stack file":           rewrite("compose.yaml", "services: {web: {image: changed}}"),
		"the same size, old times": disguised("env/web.env", "A=1", "A=2"),
		"an env file":              rewrite("env/web.env", "A=3\nB=4"),
		"a secret's file":          rewrite("key.txt", "other"),
		"an override that appears": rewrite("compose.override.yaml", "services: {web: {image: overridden}}"),
		"a .env that appears":      rewrite(".env", "TAG=9"),
		"an optional env file":     rewrite("env/optional.env", "OPT=1"),
		"the included file":        rewrite("inc/inc.yaml", "services: {cache: {image: redis:8}}"),
		"a .env of the include":    rewrite("inc/.env", "V=9"),
		"the extended file":        rewrite("base.yaml", "services: {b: {user: root}}"),
		"a label file":             rewrite("web.labels", "a=c"),
		"a seccomp profile":        rewrite("seccomp.json", `{"a":1}`),
		"a file that was missing":  rewrite("missing.env", "M=1"),
		"a file that goes":         func(t *testing.T, dir string, _ *Options) { check(t, os.Remove(filepath.Join(dir, "key.txt"))) },
		"the environment":          func(_ *testing.T, _ string, o *Options) { o.Environ = []string{"TAG=5"} },
		"the profiles":             func(_ *testing.T, _ string, o *Options) { o.Profiles = []string{"p"} },
		"a file nearer by":         rewrite("sub/compose.yaml", "services: {near: {image: near}}"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := files{
				"compose.yaml": `
include: [inc/inc.yaml]
services:
  web: {image: "nginx:${TAG:-1}", env_file: [env/web.env, {path: env/optional.env, required: false}], label_file: web.labels, security_opt: ["seccomp=seccomp.json"], secrets: [key], extends: {file: base.yaml, service: b}}
  extra: {image: x, profiles: [p]}
  other: {image: x, env_file: missing.env}
secrets: {key: {file: key.txt}}
`, "env/web.env": "A=1", "key.txt": "k", "inc/inc.yaml": "services: {cache: {image: \"redis:${V:-7}\"}}",
				"base.yaml": "services: {b: {user: nobody}}", "sub/.keep": "", "web.labels": "a=b", "seccomp.json": "{}",
			}.write(t)
			store := t.TempDir()
			o := Options{WorkingDir: filepath.Join(dir, "sub"), Observing: true}
			waitSettled(t, dir)
			for _, fresh := range []bool{true, false} {
				if r, err := Cached(t.Context(), store, "1", o); err != nil || (r.project != nil) != fresh {
					t.Fatalf("fresh: %v, want %v, %v", r.project != nil, fresh, err)
				}
			}
			change(t, dir, &o)
			got, gotErr := Cached(t.Context(), store, "1", o)
			want, wantErr := Load(t.Context(), o)
			if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				t.Fatalf("error %v, want %v", gotErr, wantErr)
			}
			if wantErr == nil && asJSON(t, got.Stack) != asJSON(t, want.Stack) {
				t.Errorf("got  %s\nwant %s", asJSON(t, got.Stack), asJSON(t, want.Stack))
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func rewrite(name, content string) func(*testing.T, string, *Options) {
	return func(t *testing.T, dir string, _ *Options) {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
}

// disguised changes a file and puts its modification time back.
func disguised(name, _, content string) func(*testing.T, string, *Options) {
	return func(t *testing.T, dir string, _ *Options) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		check(t, err)
		check(t, os.WriteFile(path, []byte(content), 0o644))
		check(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	}
}

func TestCachedLoadComesFromTheCache(t *testing.T) {
	dir, store := files{"compose.yaml": "version: '3'\nservices: {web: {image: x}}"}.write(t), t.TempDir()
	o := Options{WorkingDir: dir}
	waitSettled(t, dir)
	first, err := Cached(t.Context(), store, "1", o)
	check(t, err)
	second, err := Cached(t.Context(), store, "1", o)
	check(t, err)
	if first.project == nil || second.project != nil {
		t.Error("the first load must be fresh and the second from the cache")
	}
	if asJSON(t, first.Stack) != asJSON(t, second.Stack) || first.Warnings.Error() != second.Warnings.Error() || len(second.Warnings) != 1 {
		t.Errorf("got %v %s, want %v %s", second.Warnings, asJSON(t, second.Stack), first.Warnings, asJSON(t, first.Stack))
	}
	if other, err := Cached(t.Context(), store, "2", o); err != nil || other.project == nil {
		t.Errorf("another version of the program took the entry: %v", err)
	}
	entries, err := os.ReadDir(store)
	check(t, err)
	if len(entries) != 1 {
		t.Errorf("%d entries of one stack", len(entries))
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// waitSettled returns once all below was last changed longer ago than the kernel's clock for files is coarse: a load
// that begins now is known to begin after the change.
func waitSettled(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		for time.Since(info.ModTime()) < 50*time.Millisecond {
			<-time.After(time.Millisecond)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrorsAreNotCached(t *testing.T) {
	dir, store := files{"compose.yaml": "services: {web: {imag: x}}"}.write(t), t.TempDir()
	var ds spec.Diagnostics
	if _, err := Cached(t.Context(), store, "1", Options{WorkingDir: dir}); !errors.As(err, &ds) {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(store); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func fifty(b *testing.B) (dir string) {
	var y strings.Builder
	y.WriteString("services:\n")
	for i := range 50 {
		fmt.Fprintf(&y, "  s%d:\n    image: busybox\n    command: [sleep, inf]\n    environment: {A: b, C: d}\n    ports: [\"%d:80\"]\n    volumes: [data:/d]\n", i, 8000+i)
	}
	y.WriteString("volumes: {data: }\n")
	dir = files{"compose.yaml": y.String()}.write(b)
	waitSettled(b, dir)
	return dir
}

func BenchmarkLoad50(b *testing.B) {
	o := Options{WorkingDir: fifty(b)}
	for b.Loop() {
		if _, err := Load(context.Background(), o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCached50(b *testing.B) {
	o, store := Options{WorkingDir: fifty(b)}, b.TempDir()
	for b.Loop() {
		if _, err := Cached(context.Background(), store, "1", o); err != nil {
			b.Fatal(err)
		}
	}
}
