// Package status is what became of a repository: its conditions, stacks, history and events. It is plain data, kept by the
// daemon and shown by the command.
package status

import (
	"slices"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/source"
)

// Condition types, in the order in which a reconciliation comes by them.
const (
	Fetched  = "Fetched"
	Verified = "Verified"
	Applied  = "Applied"
	Ready    = "Ready" // all in all
)

// Values of a condition.
const (
	True    = "True"
	False   = "False"
	Unknown = "Unknown"
)

// Reasons of conditions.
const (
	Succeeded          = "Succeeded"
	Progressing        = "Progressing"
	Suspended          = "Suspended"
	DependencyNotReady = "DependencyNotReady"
	FetchFailed        = "FetchFailed"
	NotFound           = "NotFound"
	TooLarge           = "TooLarge"
	NoSpace            = "NoSpace"
	Unsafe             = "Unsafe"
	NotSigned          = "NotSigned"
	BadSignature       = "BadSignature"
	Rewritten          = "Rewritten"
	DecryptFailed      = "DecryptFailed"
	InvalidStack       = "InvalidStack"
	NameTaken          = "NameTaken"
	ApplyFailed        = "ApplyFailed"
	RolledBack         = "RolledBack"
	RollbackFailed     = "RollbackFailed"
	PruneFailed        = "PruneFailed"
	Internal           = "Internal"
)

// Condition is one statement about the repository.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since"` // of the status
}

// Stack is one stack of the repository.
type Stack struct {
	Name string `json:"name"`
	Path string `json:"path"` // of its folder or file in the repository
	// Revision is the one that last changed it.
	Revision string    `json:"revision,omitempty"`
	Outcome  string    `json:"outcome"` // applied, failed, rolled back, applying
	Error    string    `json:"error,omitempty"`
	Changed  int       `json:"changed"` // actions that the last change took
	Time     time.Time `json:"time"`
	// Inputs are what it was made from: paths to the contents' ids, empty for what was looked for and absent.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Digest of the desired state that was applied, and of the settings that it was made with.
	Digest   string `json:"digest,omitempty"`
	Settings string `json:"settings,omitempty"`
}

// Outcomes of a stack.
const (
	StackApplying   = "applying"
	StackApplied    = "applied"
	StackFailed     = "failed"
	StackRolledBack = "rolled back"
)

// Entry is one line of the history: a revision that was attempted.
type Entry struct {
	Time     time.Time       `json:"time"`
	Revision source.Revision `json:"revision"`
	By       string          `json:"by"`      // interval, webhook, sync, start
	Outcome  string          `json:"outcome"` // Succeeded, or the reason of the failure
	Message  string          `json:"message,omitempty"`
	Stacks   []string        `json:"stacks,omitempty"` // those that changed
	Took     time.Duration   `json:"took"`
}

// Event is a change of a condition, or of a stack.
type Event struct {
	Time       time.Time `json:"time"`
	Repository string    `json:"repository"`
	Type       string    `json:"type"` // condition type, or stack
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Revision   string    `json:"revision,omitempty"`
}

// Repository is all of it.
type Repository struct {
	Name string `json:"name"`
	// Declared is the file that declares it, empty for what the command added.
	Declared   string             `json:"declared,omitempty"`
	Definition declare.Repository `json:"definition"`
	Suspended  bool               `json:"suspended,omitempty"` // by the command
	// Released repositories are no longer followed; their files stay until no container mounts any.
	Released   bool            `json:"released,omitempty"`
	Attempted  source.Revision `json:"attempted,omitzero"`
	Applied    source.Revision `json:"applied,omitzero"`
	Conditions []Condition     `json:"conditions,omitempty"`
	Stacks     []Stack         `json:"stacks,omitempty"`
	History    []Entry         `json:"history,omitempty"` // the latest last
	Events     []Event         `json:"events,omitempty"`  // the latest last
	LastRun    time.Time       `json:"last_run,omitzero"`
	NextRun    time.Time       `json:"next_run,omitzero"`
	// Failures in a row, which the distance of retries grows with.
	Failures int `json:"failures,omitempty"`
	// Verdict is the revision that is not tried again by itself, because it would fail in the same way.
	Verdict string `json:"verdict,omitempty"`
	// Settings is a digest of the definition that the last attempt was made with.
	Settings string `json:"settings,omitempty"`
	// Followed is a digest of where it came from: what was applied from elsewhere is no ancestor.
	Followed string `json:"followed,omitempty"`
	// Told is what receivers were told last, Reported what the server was.
	Told     Told   `json:"told,omitzero"`
	Reported string `json:"reported,omitempty"`
}

// Told is what receivers of notifications were told last.
type Told struct {
	State    string    `json:"state"`
	Reason   string    `json:"reason"`
	Revision string    `json:"revision,omitempty"`
	Time     time.Time `json:"time"`
}

// Kept bounds what is kept of the past.
const (
	keptEntries = 50
	keptEvents  = 200
)

// Condition finds a condition; one that was never set is Unknown.
func (r *Repository) Condition(kind string) Condition {
	for _, c := range r.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return Condition{Type: kind, Status: Unknown, Reason: Progressing}
}

// Set changes a condition and tells whether it is another than before. A change is an event.
func (r *Repository) Set(now time.Time, c Condition, revision string) bool {
	c.Since = now
	i := slices.IndexFunc(r.Conditions, func(old Condition) bool { return old.Type == c.Type })
	if i < 0 {
		r.Conditions = append(r.Conditions, c)
	} else {
		old := r.Conditions[i]
		if old.Status == c.Status {
			c.Since = old.Since
		}
		r.Conditions[i] = c
		if old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
			return false
		}
	}
	r.Tell(Event{Time: now, Type: c.Type, Reason: c.Reason, Message: c.Message, Revision: revision})
	return true
}

// Tell appends an event.
func (r *Repository) Tell(e Event) {
	e.Repository = r.Name
	r.Events = append(r.Events, e)
	r.Events = slices.Delete(r.Events, 0, max(0, len(r.Events)-keptEvents))
}

// Record appends to the history.
func (r *Repository) Record(e Entry) {
	r.History = append(r.History, e)
	r.History = slices.Delete(r.History, 0, max(0, len(r.History)-keptEntries))
}

// Stack finds a stack by name.
func (r *Repository) Stack(name string) *Stack {
	for i := range r.Stacks {
		if r.Stacks[i].Name == name {
			return &r.Stacks[i]
		}
	}
	return nil
}
