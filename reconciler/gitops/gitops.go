// Package gitops keeps stacks as repositories have them: it fetches, verifies, checks out, decrypts, loads, applies and
// prunes (reconcile.go reads top to bottom), at an interval, when a webhook comes and when somebody asks.
//
// What a repository is allowed to do, and what is kept where, is in the packages below: declare, source, checkout, trust,
// sops, webhook, notify.
package gitops

import (
	"context"
	"net/http"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/spec"
)

// Stacks is what this package asks of the reconciler.
type Stacks interface {
	// Up converges a stack and waits until it is healthy. It returns the number of actions taken.
	Up(ctx context.Context, desired *spec.Stack, o UpOptions) (changed int, err error)
	// Down takes a stack away, with its volumes only when asked to.
	Down(ctx context.Context, name string, volumes bool) error
	// Desired is what a stack is to be; nil when nobody wants it.
	Desired(name string) (*spec.Stack, error)
	// Mounted are the host paths that containers and kept revisions of any stack mount or read.
	Mounted() (map[string]bool, error)
}

// UpOptions of an Up.
type UpOptions struct {
	Cause         Cause
	RemoveOrphans bool
	WaitTimeout   time.Duration
}

// Cause is who wants it and why.
type Cause struct {
	By      string // the commit's author
	Command string
	Ref     string // repository and commit
}

// Options of a Controller.
type Options struct {
	Root   string // folder for repositories
	RunDir string // on tmpfs: what was decrypted
	File   string // the declared file
	Stacks Stacks
	// Artifact opens an OCI artifact as a source; nil refuses oci URLs.
	Artifact func(dir string, r declare.Repository) source.Source
	Metrics  http.Handler // served beside webhooks; nil is none
	Host     string       // this host's name, for commit statuses and notifications
	Version  string
	Logf     func(format string, args ...any)
}
