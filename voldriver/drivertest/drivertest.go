// Package drivertest is what every voldriver.Driver has to do, as tests that a driver's own test runs on its mounts. They
// mount for real, in a mount namespace of their own, and need root.
package drivertest

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/voldriver"
)

// Case is one mount that the driver must make work.
type Case struct {
	Name    string
	Request voldriver.Request
	// Look, where given, examines the mounted target from within the mount namespace.
	Look func(t *testing.T, target string)
}

// Run runs the suite.
func Run(t *testing.T, d voldriver.Driver, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if err := d.Check(c.Request.Mount); err != nil {
				t.Fatalf("refused: %v", err)
			}
			first, err := d.Prepare(context.Background(), c.Request)
			if err != nil {
				t.Fatal(err)
			}
			again, err := d.Prepare(context.Background(), c.Request)
			if err != nil || !reflect.DeepEqual(first, again) {
				t.Errorf("preparing again: %+v, %v; the first time %+v", again, err, first)
			}
			if first.Destination != c.Request.Mount.Target {
				t.Errorf("destination %q, want %q", first.Destination, c.Request.Mount.Target)
			}
			target := t.TempDir()
			InNamespace(t, func() {
				Mount(t, first, target)
				checkWritable(t, first, target)
				if c.Look != nil {
					c.Look(t, target)
				}
			})
		})
	}
}

// checkWritable sees whether the mount is read-only exactly when it says so.
func checkWritable(t *testing.T, m voldriver.Mount, target string) {
	t.Helper()
	if st, err := os.Stat(target); err != nil || !st.IsDir() {
		return
	}
	probe := filepath.Join(target, ".probe")
	err := os.WriteFile(probe, nil, 0o600)
	os.Remove(probe)
	if refused := err != nil; refused != m.ReadOnly {
		t.Errorf("read-only is %v, but writing gives %v", m.ReadOnly, err)
	}
}

// Mount mounts as an OCI runtime does.
func Mount(t *testing.T, m voldriver.Mount, target string) {
	t.Helper()
	if st, err := os.Stat(m.Source); err == nil && m.Type == "bind" && !st.IsDir() {
		target = filepath.Join(target, "file")
		if err := os.WriteFile(target, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recursive := slices.Contains(m.Options, "rro")
	propagation := map[string]uintptr{
		"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC, "shared": unix.MS_SHARED,
		"rshared": unix.MS_SHARED | unix.MS_REC, "slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	}
	var passOn uintptr
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
		passOn |= propagation[o]
		return o == "rro" || propagation[o] != 0
	})
	if err := (&mount.Mount{Type: m.Type, Source: m.Source, Options: options}).Mount(target); err != nil {
		t.Fatalf("mount %s (%s, %s): %v", m.Source, m.Type, strings.Join(m.Options, ","), err)
	}
	if passOn != 0 {
		if err := unix.Mount("", target, "", passOn, ""); err != nil {
			t.Fatalf("change the propagation of %s: %v", target, err)
		}
	}
	if recursive {
		if err := unix.MountSetattr(-1, target, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			t.Fatal(err)
		}
	}
}

// InNamespace runs f in a private mount namespace that is gone afterwards, with all that was mounted in it.
func InNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Errorf("a mount namespace (needs root): %v", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}
