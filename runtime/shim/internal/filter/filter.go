//go:build seccomp

// Package filter compiles a seccomp profile to the program that libcontainer would load for it.
//
// libcontainer compiles and loads in one function, in the process to be confined. The pieces it uses are reached by
// their names, so that the program here is the same whatever libcontainer makes of it; one that goes away is an error of the linker.
package filter

import (
	_ "unsafe" // for go:linkname

	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/seccomp" // has the functions below
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"
)

//go:linkname getAction github.com/opencontainers/runc/libcontainer/seccomp.getAction
func getAction(configs.Action, *uint) (libseccomp.ScmpAction, error)

//go:linkname setFlag github.com/opencontainers/runc/libcontainer/seccomp.setFlag
func setFlag(*libseccomp.ScmpFilter, specs.LinuxSeccompFlag) error

//go:linkname matchCall github.com/opencontainers/runc/libcontainer/seccomp.matchCall
func matchCall(*libseccomp.ScmpFilter, *configs.Syscall, libseccomp.ScmpAction) error

//go:linkname patch github.com/opencontainers/runc/libcontainer/seccomp/patchbpf.enosysPatchFilter
func patch(*configs.Seccomp, *libseccomp.ScmpFilter) ([]unix.SockFilter, error)

//go:linkname filterFlags github.com/opencontainers/runc/libcontainer/seccomp/patchbpf.filterFlags
func filterFlags(*configs.Seccomp, *libseccomp.ScmpFilter) (flags uint, noNewPrivs bool, err error)

// Compile returns the program and the flags to load it with. Profiles that hand decisions to another process are refused.
func Compile(profile *configs.Seccomp) ([]unix.SockFilter, uint32, error) {
	fallback, err := getAction(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, 0, err
	}
	f, err := libseccomp.NewFilter(fallback)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range profile.Architectures {
		arch, err := libseccomp.GetArchFromString(name)
		if err == nil {
			err = f.AddArch(arch)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	for _, flag := range profile.Flags {
		if err := setFlag(f, flag); err != nil {
			return nil, 0, err
		}
	}
	if err := f.SetNoNewPrivsBit(false); err != nil {
		return nil, 0, err
	}
	for _, call := range profile.Syscalls {
		if call == nil || call.Action == configs.Notify {
			return nil, 0, ErrUnsupported
		}
		if err := matchCall(f, call, fallback); err != nil {
			return nil, 0, err
		}
	}
	flags, _, err := filterFlags(profile, f)
	if err != nil {
		return nil, 0, err
	}
	program, err := patch(profile, f)
	return program, uint32(flags), err
}
