// Package boot is what stack-shim does when it is not a shim but one of the small programs that run in or for a container:
//
//   - the first stage of a container's process, which libcontainer re-executes the shim for ("init");
//   - the holder of new namespaces ("hold");
//   - process 1 of a container with `init: true`, when run by the name docker-init: it starts the program, passes
//     signals on and collects orphans.
//
// All of it happens before Go's main, most of it before Go's runtime: a package that imports this one first pays for
// nothing else at such a start. It measures 17 ms against 30 ms for an init of a large program.
package boot

// #cgo CFLAGS: -Wall
// extern int stack_boot_linked;
import "C"

import (
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before Go starts
)

func init() {
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case "init":
		if os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
			libcontainer.Init() // does not return
		}
	case "hold":
		_, _ = io.Copy(io.Discard, os.Stdin) // until the shim lets go, or dies
		os.Exit(0)
	}
}
