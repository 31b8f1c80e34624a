package spec

import "time"

// StackPolicy is what a stack file's own `x-stack` says of the whole stack: how Stack keeps it, where the Compose
// Specification has no word for it. The zero value is what a file without x-stack gets.
type StackPolicy struct {
	// Reconcile is what the daemon does about drift: "" or repair, or observe, which only reports it.
	Reconcile string `json:"reconcile,omitempty"`
	// History is how many revisions are kept; 0 is the default.
	History int `json:"history,omitempty"`
}

// Values of StackPolicy.Reconcile.
const (
	Repair  = "repair"
	Observe = "observe"
)

// Policy is `x-stack` of a service, completed by what the stack's own x-stack says for all services. It decides what is
// done around containers, never what is in them, and so takes no part in the digest.
type Policy struct {
	// Rollout says who chooses the order of an update that does not say it: "" for the specification's stop-first, or auto
	// for start-first wherever that is safe.
	Rollout string `json:"rollout,omitempty"`
	// Unhealthy is what is done about an unhealthy container; nil, as in Compose, is nothing.
	Unhealthy *UnhealthyPolicy `json:"unhealthy,omitempty"`
	// DependsOn are services of other stacks of this host, as "stack/service".
	DependsOn map[string]Dependency `json:"depends_on,omitempty"`
	// Build is the shell command that makes the service's image.
	Build string `json:"build,omitempty"`
}

// RolloutAuto is the value of Policy.Rollout.
const RolloutAuto = "auto"

// UnhealthyPolicy restarts a container that has become unhealthy.
type UnhealthyPolicy struct {
	// MaxAttempts bounds the restarts in a row that did not make it healthy; 0 is no limit.
	MaxAttempts int `json:"max_attempts,omitempty"`
	// Delay before a restart; 0 is exponential back-off.
	Delay time.Duration `json:"delay,omitempty"`
}
