package api

import (
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// Proposal is a plan with what a user decides by.
type Proposal struct {
	planner.Plan
	Basis        *planner.Basis        `json:"basis,omitempty"`
	Explanations []planner.Explanation `json:"explanations,omitempty"`
}

// Revision is a line of `history`.
type Revision struct {
	Number   int                      `json:"number"`
	Time     time.Time                `json:"time"`
	By       string                   `json:"by,omitempty"`
	Command  string                   `json:"command,omitempty"`
	Ref      string                   `json:"ref,omitempty"`
	Digest   string                   `json:"digest"`
	Outcome  string                   `json:"outcome"`
	Error    string                   `json:"error,omitempty"`
	Finished time.Time                `json:"finished,omitzero"`
	Images   map[string]RevisionImage `json:"images,omitempty"` // by service
}

// RevisionImage is the image that a service had in a revision.
type RevisionImage struct {
	Image  string `json:"image"`
	ID     string `json:"id"`
	Digest string `json:"digest,omitempty"`
}

// RevisionDetail is a revision in full, with what differs from the one before it.
type RevisionDetail struct {
	Revision
	Stack       *spec.Stack       `json:"stack"`
	Before      int               `json:"before,omitempty"` // 0: no older one is kept
	Differences []spec.Difference `json:"differences,omitempty"`
}

// DiffRequest compares two desired states: revision From, or with 0 what the stack is to be now, with revision To or, with 0,
// the given stack.
type DiffRequest struct {
	From  int         `json:"from,omitempty"`
	To    int         `json:"to,omitempty"`
	Stack *spec.Stack `json:"stack,omitempty"`
}

// DiffReply is what differs.
type DiffReply struct {
	From        int               `json:"from"` // revisions; 0 is none, or the stack file
	To          int               `json:"to"`
	Differences []spec.Difference `json:"differences"`
}
