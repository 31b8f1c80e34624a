// Package voldriver makes and mounts volumes.
//
// A volume is recorded in <root>/volumes/<name>/volume.json before its data folder exists. The Store owns the records; a
// Driver (one folder each) owns what is behind a mount: local (named volumes, also type/o/device), bind, tmpfs. Data is
// deleted by Remove alone, which is only called on an explicit request that names the volume.
package voldriver

import (
	"errors"
	"time"
)

// Errors are classified by these; each is wrapped with the volume's name and the remedy.
var (
	ErrNotFound    = errors.New("volume not found")
	ErrInUse       = errors.New("volume is in use")
	ErrConflict    = errors.New("volume exists with other options")
	ErrUnsupported = errors.New("not supported by this volume driver")
	ErrMissing     = errors.New("path does not exist") // bind source without create_host_path, subpath
)

// Volume is one named or anonymous volume of this host, as recorded.
type Volume struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver"` // local
	Options    map[string]string `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Stack      string            `json:"stack,omitempty"` // the stack that made it
	Anonymous  bool              `json:"anonymous,omitempty"`
	Created    time.Time         `json:"created"`
	Populated  bool              `json:"populated,omitempty"` // first-use copy-up is done or was not wanted
	Mountpoint string            `json:"mountpoint"`
}

// Mount is one mount of a container with its source resolved on the host, ready for an OCI config.
type Mount struct {
	Type        string   `json:"type"` // bind, tmpfs, or a filesystem type
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Options     []string `json:"options,omitempty"` // OCI mount options: rbind, ro, rro, rslave, size=...
	Volume      string   `json:"volume,omitempty"`  // name of the volume behind it
	ReadOnly    bool     `json:"read_only,omitempty"`
	// CopyUp says that the volume has not been filled from the image yet: call Store.CopyUp before the first start.
	CopyUp bool `json:"copy_up,omitempty"`
}
