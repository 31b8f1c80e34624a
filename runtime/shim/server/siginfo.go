package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoPID reads si_pid of a SIGCHLD siginfo_t: the first field of the union, which stands behind three ints and, where
// pointers have 8 bytes, 4 bytes of padding.
func siginfoPID(info *unix.Siginfo) int {
	const offset = 12 + (unsafe.Sizeof(uintptr(0))-4)%8
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), offset)))
}
