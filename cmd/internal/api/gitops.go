package api

import "github.com/stack-run/stack/reconciler/gitops/status"

// Repositories answers GET /v1/gitops: all that are followed, without their past.
type Repositories struct {
	Repositories []status.Repository `json:"repositories"`
	// Broken says what is wrong with the declared file, whose last good content holds.
	Broken string `json:"broken,omitempty"`
}

// SyncRequest asks for a repository to be reconciled now.
type SyncRequest struct {
	// AllowRewrite takes a branch that was force-pushed, this once.
	AllowRewrite bool `json:"allow_rewrite,omitempty"`
}
