//go:build !seccomp

package filter

import (
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// Compile refuses: this program was built without seccomp.
func Compile(*configs.Seccomp) ([]unix.SockFilter, uint32, error) { return nil, 0, ErrUnsupported }
