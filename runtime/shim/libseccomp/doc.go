// Package seccomp compiles seccomp profiles to BPF in Go. It has that part of the API of
// github.com/seccomp/libseccomp-golang which runc's libcontainer uses, and takes its place in stack-shim by a `replace`
// line in go.mod.
//
// Why: each process of a container compiles the profile of the container anew. With the C library that took 20 to 30 ms
// of processor time for the usual profile, more than all the rest of a container's start (13 ms); here it takes about
// one. The programs are also smaller and faster to run: libseccomp asks for one number after the other, or four at each leaf of a tree,
// while these search ranges of numbers.
//
// The programs decide as libseccomp's do; the test beside package runtime/shim/internal/seccompref runs both on every call of every
// architecture. Where rules for one call contradict each other, which libseccomp leaves to its internal order, the first one
// added that matches counts, except that one without conditions replaces all before it and hides all after it.
//
// Architectures: x86-64 with x86 and x32, and arm64 with arm. The table of system calls is generated (see gen.go) from golang.org/x/sys
// and, for x32, the kernel's header.
package seccomp
