// Package image pulls, stores, unpacks and removes images.
//
// Content, metadata and snapshots are kept through containerd's packages below one folder, opened by one process. An
// image is usable when its name record exists; everything written before that is garbage that the next start or pull
// removes or reuses.
package image

import (
	"errors"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Errors are classified by these; each is wrapped with the reference and the cause.
var (
	ErrNotFound     = errors.New("image not found")           // no such image locally, or the registry says so
	ErrUnauthorized = errors.New("registry asks for a login") // 401/403 with the credentials there are
	ErrUnavailable  = errors.New("registry not reachable")    // no answer, stalled, dropped after all tries
	ErrInvalid      = errors.New("invalid image")             // digest mismatch, malformed or hostile content
	ErrPlatform     = errors.New("image has no such platform")
	ErrInUse        = errors.New("image is in use")
	ErrNoSpace      = errors.New("no space left for image")
)

// Image is one image in the store.
type Image struct {
	ID          string    `json:"id"`     // digest of the image config
	Digest      string    `json:"digest"` // digest of what the name points to: an index or a manifest
	Names       []string  `json:"names"`  // normalised references with tags: docker.io/library/nginx:alpine
	RepoDigests []string  `json:"repo_digests,omitempty"`
	Platform    string    `json:"platform"` // os/arch[/variant]
	Created     time.Time `json:"created"`
	Pulled      time.Time `json:"pulled"`
	Size        int64     `json:"size"`               // bytes of the compressed layers and the config
	Layers      []string  `json:"layers,omitempty"`   // diff ids
	ChainID     string    `json:"chain_id,omitempty"` // of the topmost snapshot

	Config Config `json:"config"`
}

// Config is the image's runtime configuration, with Docker's health check beside OCI's fields.
type Config struct {
	ocispec.ImageConfig
	Healthcheck *Healthcheck `json:"Healthcheck,omitempty"`
}

// Healthcheck as Docker puts it into image configs. Durations in nanoseconds.
type Healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// Mount is one mount of a root filesystem, as mount(2) takes it.
type Mount struct {
	Type    string   `json:"type"` // overlay, bind
	Source  string   `json:"source"`
	Options []string `json:"options,omitempty"`
}

// Progress is one step of a pull, reported for the image and for each of its layers.
type Progress struct {
	Ref    string `json:"ref"`
	Layer  string `json:"layer,omitempty"` // digest; empty for the image as a whole
	Phase  string `json:"phase"`           // resolving, downloading, unpacking, exists, done
	Done   int64  `json:"done,omitempty"`  // bytes
	Total  int64  `json:"total,omitempty"` // bytes, 0 where unknown
	Detail string `json:"detail,omitempty"`
}

// PullOptions of one pull.
type PullOptions struct {
	Platform string         // os/arch[/variant]; empty is this machine's
	Progress func(Progress) // may be nil; called from several goroutines
}

// Registry is how one registry is reached, from the host's configuration.
type Registry struct {
	Mirrors   []string `yaml:"mirrors"`   // URLs, tried in order before the registry itself
	PlainHTTP bool     `yaml:"plainHTTP"` // loopback registries may be plain HTTP without saying so
}
