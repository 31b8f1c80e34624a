package main

import (
	"syscall"
	"unsafe"
)

// Signals that the C library keeps for its threads: neither it nor Go resets them when a program that was started with them
// ignored starts another one.
const firstReserved, lastReserved = 32, 33

// sigaction is the kernel's struct sigaction, of which only the handler matters here; see sigaction(2).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// resetReserved gives the reserved signals that somebody before this program had ignored their default action, so that
// containers don't inherit that. A handler that the C library set stays.
func resetReserved() {
	const sigDefault, sigIgnore = 0, 1
	for s := uintptr(firstReserved); s <= lastReserved; s++ {
		var now sigaction
		if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s, 0, uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(now.mask), 0, 0); e != 0 || now.handler != sigIgnore {
			continue
		}
		then := sigaction{handler: sigDefault}
		// Fails for no valid signal; then the containers inherit what the shim did.
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&then)), 0, unsafe.Sizeof(then.mask), 0, 0)
	}
}
