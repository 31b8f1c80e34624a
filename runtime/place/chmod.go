package place

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// chmod changes the mode of what it finds under the name, if that is still of the kind, and follows no link: the container
// may have put one there meanwhile, and it would lead below our own root. (fchmodat2, which could be told so, is too new.)
func chmod(dir int, name string, kind, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind {
		return unix.EAGAIN // something else by now
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}
