// Package local keeps named volumes in folders of this host. With the options type, o and device, as of mount(8), the
// folder is where another file system is mounted while a container uses the volume: NFS, CIFS, tmpfs, another folder
// (o=bind), or ext4, xfs, btrfs on a block device or in a file.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// Driver is the voldriver.Driver of mounts of type volume.
type Driver struct{}

// Check refuses what only makes sense for other mounts.
func (Driver) Check(m spec.Mount) error {
	if m.Propagation != "" || m.Recursive != "" {
		return fmt.Errorf("%w: propagation and recursive are for bind mounts", voldriver.ErrUnsupported)
	}
	return nil
}

// Prepare finds the subpath of the volume and says how to mount it.
func (Driver) Prepare(_ context.Context, r voldriver.Request) (voldriver.Mount, error) {
	source := r.Volume.Mountpoint
	if r.Mount.Subpath != "" {
		var err error
		if source, err = beneath(source, r.Mount.Subpath); err != nil {
			return voldriver.Mount{}, fmt.Errorf("volume %s: subpath %s: %w", r.Volume.Name, r.Mount.Subpath, err)
		}
	}
	options := []string{"rbind", "rprivate"}
	if r.Mount.ReadOnly {
		options = append(options, "ro")
	}
	return voldriver.Mount{
		Type: "bind", Source: source, Destination: r.Mount.Target, Options: options,
		Volume: r.Volume.Name, ReadOnly: r.Mount.ReadOnly,
		CopyUp: !r.Volume.Populated && !r.Mount.NoCopy && r.Mount.Subpath == "",
	}, nil
}

// beneath is the real path of a file or folder below root. The volume's content belongs to containers, so a link in it that
// leads out of root is refused, whoever changes it meanwhile.
func beneath(root, subpath string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	found, err := unix.Openat2(dir, subpath, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return "", voldriver.ErrMissing
	case errors.Is(err, unix.EXDEV):
		return "", fmt.Errorf("%w: it leads out of the volume", voldriver.ErrUnsupported)
	case errors.Is(err, unix.ENOSYS):
		return "", fmt.Errorf("%w: it needs Linux 5.6", voldriver.ErrUnsupported)
	case err != nil:
		return "", err
	}
	defer unix.Close(found)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", found))
}
