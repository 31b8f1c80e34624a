package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/voldriver"
)

// Backend is the voldriver.Backend of the driver "local".
type Backend struct{}

// Check knows Docker's options. A mount needs type and device together; "none" is the type of a bind.
func (Backend) Check(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case "type", "o", "device":
		case "size":
			return fmt.Errorf("driver_opts.size: %w: it needs project quotas; for a tmpfs write o: size=64m", voldriver.ErrUnsupported)
		default:
			return fmt.Errorf("driver_opts.%s: %w: the local driver has type, o and device", key, voldriver.ErrUnsupported)
		}
	}
	if len(options) > 0 && (options["type"] == "" || options["device"] == "") {
		return fmt.Errorf("driver_opts: %w: type and device belong together (a folder of the host: type: none, o: bind, device: /path)", voldriver.ErrUnsupported)
	}
	return nil
}

// Foreign volumes are those with options.
func (Backend) Foreign(v voldriver.Volume) bool { return len(v.Options) > 0 }

// Attach mounts what the options say at the Mountpoint.
func (b Backend) Attach(ctx context.Context, v voldriver.Volume) error {
	if !b.Foreign(v) {
		return nil
	}
	mounted, err := mountinfo.Mounted(v.Mountpoint)
	if err != nil || mounted {
		return err
	}
	m, err := toMount(ctx, v.Options)
	if err != nil {
		return err
	}
	if err := m.Mount(v.Mountpoint); err != nil {
		return fmt.Errorf("mount %s (type %s, options %s): %w", m.Source, m.Type, strings.Join(m.Options, ","), err)
	}
	return nil
}

// toMount turns type, o and device into what mount(2) takes.
func toMount(ctx context.Context, options map[string]string) (mount.Mount, error) {
	m := mount.Mount{Type: options["type"], Source: options["device"]}
	for o := range strings.SplitSeq(options["o"], ",") {
		if o = strings.TrimSpace(o); o != "" {
			m.Options = append(m.Options, o)
		}
	}
	switch {
	case slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind"):
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			return m, fmt.Errorf("device %s: %w", m.Source, voldriver.ErrMissing)
		}
	case strings.HasPrefix(m.Type, "nfs") || m.Type == "cifs" || m.Type == "smb3":
		return m, resolveServer(ctx, &m)
	case strings.HasPrefix(m.Source, "/"):
		st, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) {
			return m, fmt.Errorf("device %s: %w", m.Source, voldriver.ErrMissing)
		}
		if err == nil && st.Mode().IsRegular() && !slices.Contains(m.Options, "loop") { // an image file, as mount(8) does
			m.Options = append(m.Options, "loop")
		}
	}
	return m, nil
}

// resolveServer puts the server's address where the kernel wants it: it does not look up names. Without addr= the server is
// the one in the device.
func resolveServer(ctx context.Context, m *mount.Mount) error {
	at := slices.IndexFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "addr=") })
	var server string
	if at >= 0 {
		server = strings.TrimPrefix(m.Options[at], "addr=")
	} else if host, _, ok := strings.Cut(m.Source, ":/"); ok && strings.HasPrefix(m.Type, "nfs") {
		server = strings.Trim(host, "[]")
	} else if rest, ok := strings.CutPrefix(m.Source, "//"); ok {
		server, _, _ = strings.Cut(rest, "/")
	}
	if server == "" {
		return fmt.Errorf("driver_opts: %w: the server is missing; add addr=<server> to o", voldriver.ErrUnsupported)
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, server)
	if err != nil {
		return fmt.Errorf("look up the server %s: %w", server, err)
	}
	option := "addr=" + addresses[0].String()
	if at >= 0 {
		m.Options[at] = option
	} else {
		m.Options = append(m.Options, option)
	}
	return nil
}

// Detach unmounts the Mountpoint. A mount that is busy stays, which is ErrInUse.
func (b Backend) Detach(_ context.Context, v voldriver.Volume) error {
	if !b.Foreign(v) {
		return nil
	}
	for {
		mounted, err := mountinfo.Mounted(v.Mountpoint)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(v.Mountpoint, unix.UMOUNT_NOFOLLOW); errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w: %s is busy", voldriver.ErrInUse, v.Mountpoint)
		} else if err != nil {
			return &os.PathError{Op: "unmount", Path: v.Mountpoint, Err: err}
		}
	}
}

// Attached tells whether what Attach mounts is mounted.
func (b Backend) Attached(v voldriver.Volume) (bool, error) {
	if !b.Foreign(v) {
		return true, nil
	}
	return mountinfo.Mounted(v.Mountpoint)
}
