// Package source reads repositories: what a reference points to now, and the files of a revision. Nothing of what a
// repository says about itself is obeyed: no hook, filter, attribute, configuration or submodule.
package source

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors of sources, by what is to blame.
var (
	// ErrUnavailable: the server could not be asked, or did not give what it promised; it may later.
	ErrUnavailable = errors.New("the repository can't be fetched")
	// ErrNotFound: the reference, or the path in the revision, is not there.
	ErrNotFound = errors.New("not in the repository")
	// ErrTooLarge: more than the bound that was set.
	ErrTooLarge = errors.New("the repository is larger than allowed")
	// ErrNoSpace: the disk is full.
	ErrNoSpace = errors.New("no space left on the disk")
	// ErrUnsafe: the revision has something in it that must not be written to a disk.
	ErrUnsafe = errors.New("the repository holds something unsafe")
)

// Revision is one state of a repository.
type Revision struct {
	ID  string `json:"id"`            // commit, or digest of an artifact
	Ref string `json:"ref,omitempty"` // the branch or tag that pointed to it
	// Tag is the annotated tag's own object, where there is one.
	Tag     string    `json:"tag,omitempty"`
	Author  string    `json:"author,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// Short is the id as people write it.
func (r Revision) Short() string { return short(r.ID) }

func short(id string) string {
	if len(id) > 7 && id[:7] == "sha256:" {
		return id[:min(len(id), 19)]
	}
	return id[:min(len(id), 12)]
}

// Mode is what an entry of a revision is.
type Mode int

// The modes that there are. Submodules are left out.
const (
	File Mode = iota
	Executable
	Symlink
	Folder
)

// Entry is one file, symlink or folder of a revision. Equal ids are equal contents.
type Entry struct {
	Path string // slash-separated, from the top; "" is the top itself
	Mode Mode
	ID   string
}

// Source is one repository. It is used by one goroutine at a time.
type Source interface {
	// Resolve asks the server what the reference points to. Only ID, Ref and Tag of the result are sure to be set.
	Resolve(ctx context.Context) (Revision, error)
	// Fetch makes a revision's files readable and tells all about it. Fetching what is there already is cheap.
	Fetch(ctx context.Context, rev Revision) (Revision, error)
	// Entries lists a fetched revision, folders before what is in them.
	Entries(ctx context.Context, rev Revision) ([]Entry, error)
	// Read hands each entry's content to f, in any order. The reader is good until f returns.
	Read(ctx context.Context, rev Revision, entries []Entry, f func(e Entry, size int64, r io.Reader) error) error
	// Descends tells whether a revision came after another one, with nothing of it taken back.
	Descends(ctx context.Context, rev Revision, from string) (bool, error)
	// Signed is what the commit's, or with tag the tag's, signature is about, and the signature; empty where it has none.
	Signed(ctx context.Context, rev Revision, tag bool) (payload, signature []byte, err error)
	// Clean gives back what is no longer needed once a revision is in use.
	Clean(ctx context.Context, rev Revision) error
}
