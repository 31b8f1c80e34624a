package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/continuity/sysx"
	"golang.org/x/sys/unix"
)

// copyMetadata gives dst, a file or folder, the owner, mode, attributes and times of src.
func copyMetadata(dst, src string, fi fs.FileInfo) error {
	st := fi.Sys().(*syscall.Stat_t)
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyAttributes(dst, src); err != nil {
		return err
	}
	// After the owner, whose change clears the set-uid bits.
	if err := os.Chmod(dst, fi.Mode()); err != nil {
		return err
	}
	times := []unix.Timespec{{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW)
}

// copyAttributes leaves out trusted.*, which is overlay's own.
func copyAttributes(dst, src string) error {
	keys, err := sysx.LListxattr(src)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "trusted.") {
			continue
		}
		value, err := sysx.LGetxattr(src, key)
		if err != nil {
			return err
		}
		if err := unix.Lsetxattr(dst, key, value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", key, err)
		}
	}
	return nil
}
