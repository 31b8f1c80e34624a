package bind

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/drivertest"
)

func request(m spec.Mount) voldriver.Request {
	m.Type, m.Target = spec.MountBind, "/t"
	return voldriver.Request{Mount: m}
}

func TestDriver(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	seesFile := func(t *testing.T, target string) {
		if _, err := os.Stat(filepath.Join(target, "file")); err != nil {
			t.Error(err)
		}
	}
	drivertest.Run(t, Driver{}, []drivertest.Case{
		{Name: "a folder", Request: request(spec.Mount{Source: dir}), Look: seesFile},
		{Name: "a folder by a link", Request: request(spec.Mount{Source: link}), Look: seesFile},
		{Name: "a file", Request: request(spec.Mount{Source: file}), Look: seesFile},
		{Name: "read-only", Request: request(spec.Mount{Source: dir, ReadOnly: true}), Look: seesFile},
		{Name: "a missing folder is made", Request: request(spec.Mount{Source: filepath.Join(dir, "a", "b"), CreateHostPath: true})},
		{Name: "selinux labels mean nothing here", Request: request(spec.Mount{Source: dir, SELinux: "Z"})},
	})
}

// TestRecursive looks at a file system mounted below the source, in a mount namespace where that can be done.
func TestRecursive(t *testing.T) {
	for _, test := range []struct {
		name            string
		mount           spec.Mount
		seen, writeable bool
	}{
		{"by default what is below is there", spec.Mount{}, true, true},
		{"disabled", spec.Mount{Recursive: "disabled"}, false, true},
		{"read-only means all of it", spec.Mount{ReadOnly: true}, true, false},
		{"read-only, what is below stays writable", spec.Mount{ReadOnly: true, Recursive: "writable"}, true, true},
		{"read-only, all of it or nothing", spec.Mount{ReadOnly: true, Recursive: "readonly"}, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			source, target := t.TempDir(), t.TempDir()
			below := filepath.Join(source, "below")
			drivertest.InNamespace(t, func() {
				if err := os.Mkdir(below, 0o755); err != nil {
					t.Error(err)
				}
				if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(below, "mark"), nil, 0o600); err != nil {
					t.Error(err)
				}
				test.mount.Source = source
				m, err := Driver{}.Prepare(context.Background(), request(test.mount))
				if err != nil {
					t.Error(err)
					return
				}
				drivertest.Mount(t, m, target)
				_, err = os.Stat(filepath.Join(target, "below", "mark"))
				if seen := err == nil; seen != test.seen {
					t.Errorf("seen is %v", seen)
				}
				err = os.WriteFile(filepath.Join(target, "below", "probe"), nil, 0o600)
				if writeable := err == nil; writeable != test.writeable {
					t.Errorf("writeable is %v (%v)", writeable, err)
				}
			})
		})
	}
}

func TestPropagationNeedsASharedMount(t *testing.T) {
	source := t.TempDir()
	drivertest.InNamespace(t, func() {
		if err := unix.Mount("tmpfs", source, "tmpfs", 0, ""); err != nil {
			t.Error(err)
		}
		prepare := func() error {
			_, err := Driver{}.Prepare(context.Background(), request(spec.Mount{Source: source, Propagation: "rshared"}))
			return err
		}
		if err := prepare(); !errors.Is(err, voldriver.ErrUnsupported) || !strings.Contains(err.Error(), "mount --make-shared "+source) {
			t.Errorf("private: %v", err)
		}
		if err := unix.Mount("", source, "", unix.MS_SHARED, ""); err != nil {
			t.Error(err)
		}
		if err := prepare(); err != nil {
			t.Errorf("shared: %v", err)
		}
	})
}

func TestRefused(t *testing.T) {
	for name, m := range map[string]spec.Mount{
		"unknown propagation":                      {Source: "/", Propagation: "sideways"},
		"unknown recursive":                        {Source: "/", Recursive: "deep"},
		"recursively read-only, but not read-only": {Source: "/", Recursive: "readonly"},
		"unknown label":                            {Source: "/", SELinux: "x"},
		"subpath":                                  {Source: "/", Subpath: "x"},
	} {
		if err := (Driver{}).Check(request(m).Mount); !errors.Is(err, voldriver.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Driver{}).Check(request(spec.Mount{Source: "x"}).Mount); err == nil {
		t.Error("a relative source is accepted")
	}
	missing := filepath.Join(t.TempDir(), "x")
	if _, err := (Driver{}).Prepare(context.Background(), request(spec.Mount{Source: missing})); !errors.Is(err, voldriver.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("it was made")
	}
}
