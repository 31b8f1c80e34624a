package voldriver

import (
	"context"

	"github.com/stack-run/stack/spec"
)

// Request is one mount of a container that a Driver makes ready.
type Request struct {
	Mount  spec.Mount
	Volume Volume // the volume behind it, attached; zero for other mounts
}

// Driver makes mounts of one type (volume, bind, tmpfs) ready for an OCI config.
type Driver interface {
	// Check refuses what the driver can't do, before anything is touched.
	Check(spec.Mount) error
	// Prepare makes the source exist where the file asks for that, and says how to mount it. Doing so again gives the
	// same Mount.
	Prepare(context.Context, Request) (Mount, error)
}

// Backend keeps the data of named volumes. Every method is idempotent.
type Backend interface {
	// Check refuses driver_opts the backend can't honour.
	Check(options map[string]string) error
	// Foreign tells whether the data lives elsewhere (another folder, device or server) and is only mounted at the volume's
	// Mountpoint. It is then never deleted.
	Foreign(Volume) bool
	// Attach makes the data appear at the Mountpoint, which exists. It is called before each use.
	Attach(context.Context, Volume) error
	// Detach undoes Attach, once nobody uses the volume.
	Detach(context.Context, Volume) error
}
