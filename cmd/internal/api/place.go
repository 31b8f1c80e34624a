package api

import "github.com/stack-run/stack/reconciler/watch/ignore"

// PlaceRequest makes files of a service's running containers equal to files of this host, as the one who asks sees them.
type PlaceRequest struct {
	Service    string     `json:"service"`
	Containers []string   `json:"containers,omitempty"` // ids; empty: all that run
	Sets       []PlaceSet `json:"sets"`
}

// PlaceSet is some paths below a folder, or one file, and where they belong in the container. What is not there on the host is
// removed in the container, but for what is ignored in it.
type PlaceSet struct {
	Source string        `json:"source"` // absolute
	Target string        `json:"target"` // absolute
	Paths  []string      `json:"paths"`  // relative to both; "" is the folder or file itself
	Ignore []ignore.List `json:"ignore,omitempty"`
}

// PlaceResult tells of each container that ran what was done in it.
type PlaceResult struct {
	Containers []Placed `json:"containers,omitempty"`
}

// Placed is what was done in one container. With an Error not all of it was done.
type Placed struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Written   int            `json:"written,omitempty"`
	Unchanged int            `json:"unchanged,omitempty"`
	Removed   int            `json:"removed,omitempty"`
	Skipped   int            `json:"skipped,omitempty"` // devices, sockets, pipes
	Bytes     int64          `json:"bytes,omitempty"`
	Failures  []PlaceFailure `json:"failures,omitempty"`
	Error     *Error         `json:"error,omitempty"`
}

// PlaceFailure is one path that could not be made equal.
type PlaceFailure struct {
	Path    string `json:"path"` // in the container
	Message string `json:"message"`
}
