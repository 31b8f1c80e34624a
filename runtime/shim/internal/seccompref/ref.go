//go:build seccomp

// Package seccompref compiles seccomp rules with the C library libseccomp, for tests that compare our own compiler with it.
package seccompref

// #cgo pkg-config: libseccomp
// #include <errno.h>
// #include <stdlib.h>
// #include <seccomp.h>
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Arg is one comparison, with the constants of libseccomp's enum scmp_compare.
type Arg struct {
	Index uint
	Op    uint
	A, B  uint64
}

// Rule makes a call end in an action, a value of libseccomp's SCMP_ACT_*.
type Rule struct {
	Name   string
	Action uint32
	Args   []Arg
}

// ErrUnknown tells that libseccomp does not know a call.
var ErrUnknown = errors.New("unknown call")

// Number resolves a name on an architecture (SCMP_ARCH_*, 0 is the native one); ErrUnknown.
func Number(name string, arch uint32) (int, error) {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	n := C.seccomp_syscall_resolve_name_arch(C.uint32_t(arch), s)
	if n == C.__NR_SCMP_ERROR {
		return 0, ErrUnknown
	}
	return int(n), nil
}

// Compile returns the program for the native architecture and those in archs.
func Compile(fallback uint32, archs []uint32, rules []Rule) ([]byte, error) {
	filter := C.seccomp_init(C.uint32_t(fallback))
	if filter == nil {
		return nil, errors.New("seccomp_init failed")
	}
	defer C.seccomp_release(filter)
	for _, a := range archs {
		if rc := C.seccomp_arch_add(filter, C.uint32_t(a)); rc != 0 && rc != -C.EEXIST {
			return nil, fmt.Errorf("seccomp_arch_add: %d", rc)
		}
	}
	for _, r := range rules {
		n, err := Number(r.Name, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		args := make([]C.struct_scmp_arg_cmp, len(r.Args))
		for i, a := range r.Args {
			args[i].arg, args[i].op = C.uint(a.Index), uint32(a.Op)
			args[i].datum_a, args[i].datum_b = C.scmp_datum_t(a.A), C.scmp_datum_t(a.B)
		}
		var first *C.struct_scmp_arg_cmp
		if len(args) > 0 {
			first = &args[0]
		}
		if rc := C.seccomp_rule_add_array(filter, C.uint32_t(r.Action), C.int(n), C.uint(len(args)), first); rc != 0 {
			return nil, fmt.Errorf("seccomp_rule_add %s: %d", r.Name, rc)
		}
	}
	fd, err := unix.MemfdCreate("bpf", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "bpf")
	defer f.Close()
	if rc := C.seccomp_export_bpf(filter, C.int(fd)); rc != 0 {
		return nil, fmt.Errorf("seccomp_export_bpf: %d", rc)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}
