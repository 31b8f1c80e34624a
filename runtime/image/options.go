package image

import (
	"encoding/json"
	"time"
)

// Options of a store. Only Root is required.
type Options struct {
	Root         string              // folder of the store, owned by it alone
	Snapshotter  string              // overlay (default) or native
	Registries   map[string]Registry // by the registry's name in references: docker.io
	DockerConfig string              // folder of docker's config.json; empty is $DOCKER_CONFIG, else ~/.docker

	// InUse lists what uses an image (containers' names or addresses); nil where nothing can. It is called without
	// any lock of the store held.
	InUse func(imageID string) []string
	// Logf receives what can't be returned to a caller: background clean-up that failed, mirrors passed over.
	Logf func(format string, args ...any)

	Stall    time.Duration // a connection silent for this long is dead; default 30 s
	Parallel int           // layers fetched and unpacked at once; default 6
	Limits   Limits
}

// Limits bound what one image may cost the host. Zero fields take the defaults.
type Limits struct {
	Layers       int   // layers of one image; default 250
	LayerEntries int   // files, folders and links in one layer; default 4,000,000
	LayerBytes   int64 // unpacked bytes of one layer, holes of sparse files included; default 64 GiB
	ConfigBytes  int64 // size of a manifest or config; default 8 MiB
}

func (o *Options) setDefaults() {
	if o.Snapshotter == "" {
		o.Snapshotter = "overlay"
	}
	if o.InUse == nil {
		o.InUse = func(string) []string { return nil }
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.Parallel <= 0 {
		o.Parallel = 6
	}
	if o.Limits.Layers <= 0 {
		o.Limits.Layers = 250
	}
	if o.Limits.LayerEntries <= 0 {
		o.Limits.LayerEntries = 4_000_000
	}
	if o.Limits.LayerBytes <= 0 {
		o.Limits.LayerBytes = 64 << 30
	}
	if o.Limits.ConfigBytes <= 0 {
		o.Limits.ConfigBytes = 8 << 20
	}
}

// LoadOptions of one Load.
type LoadOptions struct {
	// Name for the image. Required for a root filesystem; for other archives it replaces the names they carry, and is
	// refused when they hold several images.
	Name     string
	Platform string         // which image of an index to load, and what a root filesystem is made for; empty is this machine's
	Config   *Config        // configuration of an image made from a root filesystem; ignored for others
	Progress func(Progress) // may be nil
}

// RemoveReport says what a removal did.
type RemoveReport struct {
	Untagged []string `json:"untagged,omitempty"` // references
	Deleted  []string `json:"deleted,omitempty"`  // image IDs
}

// Details is an image with the documents it was made from, for inspect.
type Details struct {
	Image
	Manifest  json.RawMessage `json:"manifest"`   // the manifest of this platform, as stored
	RawConfig json.RawMessage `json:"raw_config"` // the image config, as stored
	UsedBy    []string        `json:"used_by,omitempty"`
}
