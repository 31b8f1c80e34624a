// Package bind mounts files and folders of the host.
package bind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// Driver is the voldriver.Driver of mounts of type bind.
type Driver struct{}

var propagations = []string{"", "private", "rprivate", "shared", "rshared", "slave", "rslave"}

// Check knows the options of the specification. SELinux labels have no effect on a host without SELinux.
func (Driver) Check(m spec.Mount) error {
	switch {
	case !filepath.IsAbs(m.Source):
		return fmt.Errorf("bind source %q is not an absolute path", m.Source)
	case !slices.Contains(propagations, m.Propagation):
		return fmt.Errorf("%w: propagation %q is not one of %s", voldriver.ErrUnsupported, m.Propagation, strings.Join(propagations[1:], ", "))
	case !slices.Contains([]string{"", "enabled", "disabled", "writable", "readonly"}, m.Recursive):
		return fmt.Errorf("%w: recursive %q is not enabled, disabled, writable or readonly", voldriver.ErrUnsupported, m.Recursive)
	case m.SELinux != "" && m.SELinux != "z" && m.SELinux != "Z":
		return fmt.Errorf("%w: selinux %q is not z or Z", voldriver.ErrUnsupported, m.SELinux)
	case m.Recursive == "readonly" && !m.ReadOnly:
		return fmt.Errorf("%w: recursive: readonly needs read_only: true", voldriver.ErrUnsupported)
	case m.Recursive == "readonly" && !canRecurse():
		return fmt.Errorf("%w: recursive: readonly needs Linux 5.12", voldriver.ErrUnsupported)
	case m.Subpath != "":
		return fmt.Errorf("%w: subpath is for volumes", voldriver.ErrUnsupported)
	}
	return nil
}

// Prepare makes a missing host path where the file allows that, and says how to mount it.
func (Driver) Prepare(_ context.Context, r voldriver.Request) (voldriver.Mount, error) {
	m := r.Mount
	if err := ensure(m.Source, m.CreateHostPath); err != nil {
		return voldriver.Mount{}, err
	}
	if err := checkPropagation(m.Source, m.Propagation); err != nil {
		return voldriver.Mount{}, err
	}
	out := voldriver.Mount{Type: "bind", Source: m.Source, Destination: m.Target, ReadOnly: m.ReadOnly}
	kind := "rbind"
	if m.Recursive == "disabled" {
		kind = "bind"
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	out.Options = []string{kind, propagation}
	if m.ReadOnly {
		out.Options = append(out.Options, readOnly(m.Recursive))
	}
	return out, nil
}

// readOnly is for the mounts below as well where the kernel can do that, unless the file says that those stay writable.
func readOnly(recursive string) string {
	if recursive == "writable" || recursive == "disabled" || !canRecurse() {
		return "ro"
	}
	return "rro"
}

func ensure(path string, create bool) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !create {
		return fmt.Errorf("bind source %s: %w; make it, or set create_host_path: true", path, voldriver.ErrMissing)
	}
	return os.MkdirAll(path, 0o755)
}

// canRecurse tells whether the kernel has mount_setattr(2), Linux 5.12. It looks at the descriptor first, so that -1 changes
// nothing.
var canRecurse = sync.OnceValue(func() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return !errors.Is(err, unix.ENOSYS)
})

// checkPropagation refuses to pass mounts on where the host's own mount is not set up for it, which would silently do nothing.
func checkPropagation(path, propagation string) error {
	kind := strings.TrimPrefix(propagation, "r")
	if kind != "shared" && kind != "slave" {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return err
	}
	if len(mounts) == 0 {
		return fmt.Errorf("bind source %s: its mount is not visible", path)
	}
	holder := mounts[0]
	for _, m := range mounts { // the longest; of two at one place the later covers the earlier
		if len(m.Mountpoint) >= len(holder.Mountpoint) {
			holder = m
		}
	}
	if strings.Contains(holder.Optional, "shared:") || kind == "slave" && strings.Contains(holder.Optional, "master:") {
		return nil
	}
	return fmt.Errorf("bind source %s: %w: propagation %s needs a shared mount, and %s is not (mount --make-shared %s)",
		path, voldriver.ErrUnsupported, propagation, holder.Mountpoint, holder.Mountpoint)
}
