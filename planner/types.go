// Package planner compares the desired state of a stack with what was observed and says what to do: a plan.
//
// Everything here is a pure function of its arguments: no I/O, no clock, no goroutine. The reconciler observes, asks
// for a plan, and executes it; `stack plan` prints the very same plan.
package planner

import (
	"time"

	"github.com/stack-run/stack/spec"
)

// Observed is what was found on this host of one stack, and of what its desired state refers to.
type Observed struct {
	// Stack is the stack's name. It tells its own networks and volumes from those of others.
	Stack      string
	Containers []Container         // of this stack, one-off ones included
	Networks   map[string]*Network // by name on the host
	Volumes    map[string]*Volume  // by name on the host
	Images     map[string]*Image   // by the reference that services use; absent: not in the store
	// Foreign are running containers of other stacks that desired services refer to (network_mode: container:NAME), by name.
	Foreign map[string]string
	// Daemon tells whether container_name values are taken by containers of other stacks: name to "stack/service".
	TakenNames map[string]string
	Jobs       map[string]*Job // of this stack, as the daemon keeps them
	// Others are the stacks that services of this one refer to (x-stack: depends_on), and those that they refer to in turn.
	Others map[string]*Other
	// Paused are the services whose rollout stopped because of failures, with what failed: the loop leaves the rest of it to
	// the user.
	Paused map[string]string
}

// Container states.
const (
	Created    = "created"
	Running    = "running"
	Paused     = "paused"
	Restarting = "restarting" // exited, waiting to be started again by its restart policy
	Exited     = "exited"
	Broken     = "broken" // half-made or half-removed: is removed and made again
)

// Health states.
const (
	NoHealth  = ""
	Starting  = "starting"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// Container is one container of the stack as it is.
type Container struct {
	ID       string
	Name     string
	Service  string
	Replica  int    // counts from 1
	OneOff   bool   // made by `run`, or for a job or a pre_start hook
	Job      string // the job that it is a run of
	Spec     spec.Service
	ImageID  string
	State    string
	Health   string
	ExitCode int
	// Stopped says that a user stopped it: it stays so until a user starts it.
	Stopped bool
	// Updating says that an update in place was begun and not finished: its limits may be neither the old nor the new ones.
	Updating bool
	// Initialized says that its pre_start hooks have succeeded, so that it may start again without.
	Initialized bool
	// HooksPending says that it runs, and that its post_start hooks have not all succeeded since it was started.
	HooksPending bool
	// Due says that it is to be started again, by its restart policy or because an operation that had stopped it for a moment
	// was interrupted, and that nobody is about to: whoever keeps the stack plans it.
	Due bool
	// Broken is why it ended, where it did not end by itself.
	Broken string
	// Drift is what others changed or broke around a container that runs and can be mended in place; Lost is why it can't be
	// mended and has to be made again.
	Drift []string
	Lost  string
	// Networks it is connected to: host names of networks to the networks' ids.
	Networks map[string]string
	// Volumes it mounts: names on the host.
	Volumes []string
	// NamespaceOf are ids of the containers whose namespaces it shares.
	NamespaceOf []string
	// Succeeds is the id of the container whose place it was made to take, start-first, until it has that one's name.
	Succeeds string
	// Drained says that new connections are kept away from it, since another one was to take its place.
	Drained bool
	Created time.Time
}

// Network on the host.
type Network struct {
	Name   string
	ID     string
	Stack  string   // owner; empty for what no stack made
	Digest string   // of the options it was made with: NetworkDigest
	Drift  []string // what is missing or differs in the kernel
	Users  []string // names of containers of other stacks on it
}

// Volume on the host.
type Volume struct {
	Name   string
	Stack  string
	Digest string   // VolumeDigest
	Users  []string // names of containers of other stacks that mount it
	Drift  []string // what others took away and can be brought back: its mount
	Damage []string // what is gone and only its owner can bring back: it is told, and nothing is done about it
}

// Image in the store.
type Image struct {
	ID     string
	Digest string
	Pulled time.Time
	// Volumes are the paths in which it keeps data: its containers get anonymous volumes there.
	Volumes []string
	Stale   bool // older than the pull policy allows (daily, weekly, every_...)
}

// Kind of an action.
type Kind string

// The kinds, in the words in which plans print them.
const (
	BuildImage       Kind = "build" // is only told: the command has it done before the daemon plans what it does
	PullImage        Kind = "pull"
	CreateNetwork    Kind = "create network"
	RepairNetwork    Kind = "repair network"
	RemoveNetwork    Kind = "remove network"
	CreateVolume     Kind = "create volume"
	RepairVolume     Kind = "repair volume"
	RemoveVolume     Kind = "remove volume"
	CreateContainer  Kind = "create"
	StartContainer   Kind = "start"
	StopContainer    Kind = "stop"
	KillContainer    Kind = "kill"
	RemoveContainer  Kind = "remove"
	UpdateContainer  Kind = "update" // in place: the record, limits, log
	RepairContainer  Kind = "repair" // what is around its process: links, addresses, rules, limits
	PauseContainer   Kind = "pause"
	UnpauseContainer Kind = "unpause"
	// PreStart runs pre_start hooks before a container that was made starts for the first time: with a replica in the address
	// those that are for each, without those that are once for all.
	PreStart Kind = "pre_start"
	// PostStart runs the post_start hooks of a container that was started; the start is over when they have succeeded.
	PostStart Kind = "post_start"
	// Jobs: the daemon runs what it has been given, until it is taken away or suspended.
	AddJob     Kind = "add job"
	UpdateJob  Kind = "update job"
	RemoveJob  Kind = "remove job"
	SuspendJob Kind = "suspend job"
	ResumeJob  Kind = "resume job"
	// ServeContainer waits until a new container is ready, and lets it serve. With the condition RunningOrHealthy it may also end
	// with success.
	ServeContainer Kind = "serve"
	// DrainContainer keeps new connections away from a container and waits for those it has to end, for at most its stop
	// grace period.
	DrainContainer Kind = "drain"
	// RenameContainer gives a successor the name of the container it took the place of.
	RenameContainer Kind = "rename"
	// Monitor watches the containers that a batch of a rollout has put in place.
	Monitor Kind = "monitor"
	// Delay is the pause between two batches of a rollout.
	Delay Kind = "delay"
	// Wait for a condition of a service: of all its containers but one-off ones and those a user stopped.
	Wait        Kind = "wait"
	RemoveImage Kind = "remove image"
)

// RunningOrHealthy is the condition that `--wait` waits for: running and, where there is a health check, healthy.
const RunningOrHealthy = "running_or_healthy"

// Reason is why an action is needed, from a closed list; Action.Detail adds the particulars.
type Reason string

const (
	Missing             Reason = "missing"
	SpecChanged         Reason = "spec changed"
	ImageChanged        Reason = "image changed"
	ContentChanged      Reason = "content changed" // of a secret, config or env file
	NetworkChanged      Reason = "network changed"
	VolumeChanged       Reason = "volume changed"
	DependencyRecreated Reason = "dependency recreated"
	DependencyRestarted Reason = "dependency restarted"
	NamespaceRecreated  Reason = "namespace recreated"
	NotRunning          Reason = "not running"
	HasExited           Reason = "exited"
	IsUnhealthy         Reason = "unhealthy"
	Drifted             Reason = "drifted"
	IsBroken            Reason = "half-made"
	Unfinished          Reason = "update not finished"
	StopUnfinished      Reason = "stop not finished"
	Orphan              Reason = "orphan"
	ScaleUp             Reason = "scale up"
	ScaleDown           Reason = "scale down"
	Requested           Reason = "requested"
	Forced              Reason = "force recreate"
	PolicyAsks          Reason = "pull policy"
	Replaced            Reason = "replaced"
	Dependency          Reason = "dependency"
	RestartPolicy       Reason = "restart policy"
	HooksPending        Reason = "post_start pending"
	RollingOut          Reason = "rollout"
	RollingBack         Reason = "rollback"
)

// Action is one step. Actions of a plan form a DAG by After; those without an order between them run at once.
type Action struct {
	ID      int           `json:"id"` // index in Plan.Actions
	Kind    Kind          `json:"kind"`
	Address string        `json:"address"`        // service.web[2], network.front, volume.data, image.redis:7: spec.Address
	Name    string        `json:"name,omitempty"` // name on the host: container, network or volume name, image reference
	Reason  Reason        `json:"reason"`
	Detail  string        `json:"detail,omitempty"`
	Changes []spec.Change `json:"changes,omitempty"`
	After   []int         `json:"after,omitempty"`

	// What it acts on.
	Stack       string `json:"stack,omitempty"` // of a wait for a service of another stack
	Service     string `json:"service,omitempty"`
	Replica     int    `json:"replica,omitempty"`
	ContainerID string `json:"container_id,omitempty"` // of an existing container
	// Replaces is the container that a create takes the place of: it hands over its anonymous volumes.
	Replaces string `json:"replaces,omitempty"`
	// Succeeds is the container beside which a create makes another, start-first, to take its place later.
	Succeeds  string         `json:"succeeds,omitempty"`
	To        string         `json:"to,omitempty"`        // the new name, of a rename
	Hold      bool           `json:"hold,omitempty"`      // of a stop: new connections wait for the container that comes next
	Batch     int            `json:"batch,omitempty"`     // of a monitor: counts from 1
	For       time.Duration  `json:"for,omitempty"`       // how long a monitor or delay takes
	Condition string         `json:"condition,omitempty"` // of a wait: spec.Started, spec.Healthy, spec.CompletedSuccessfully, RunningOrHealthy
	Optional  bool           `json:"optional,omitempty"`  // a wait that may fail (required: false)
	Timeout   *time.Duration `json:"timeout,omitempty"`   // of a stop
	Signal    string         `json:"signal,omitempty"`    // of a kill
	Volumes   bool           `json:"volumes,omitempty"`   // a remove takes the anonymous volumes along
}

// Note is something the plan wants said that is no action: an orphan left alone, a volume whose options differ.
type Note struct {
	Address string `json:"address"`
	Text    string `json:"text"`
	Remedy  string `json:"remedy,omitempty"`
}

// Plan is what would be done.
type Plan struct {
	Stack   string   `json:"stack"`
	Actions []Action `json:"actions"`
	// Rollouts say how the containers of services are replaced that have a word on it.
	Rollouts []Rollout `json:"rollouts,omitempty"`
	Notes    []Note    `json:"notes,omitempty"`
}

// Empty tells whether there is nothing to do. Waiting for what already holds is nothing.
func (p Plan) Empty() bool {
	for _, a := range p.Actions {
		if a.Kind != Wait {
			return false
		}
	}
	return true
}

// Options of an up, create, scale or run.
type Options struct {
	Services           []string // named by the user; empty is all. Their dependencies come along unless NoDeps.
	NoDeps             bool
	Scale              map[string]int // overrides of replicas
	ForceRecreate      bool
	NoRecreate         bool
	AlwaysRecreateDeps bool
	RemoveOrphans      bool
	IgnoreOrphans      bool
	NoStart            bool            // create only
	Pull               string          // "", always, missing, never, policy: overrides pull_policy
	Pulled             map[string]bool // image references pulled by this operation already
	Build              Building        // what a plan that is only shown says would be built
	RenewAnonVolumes   bool
	// OneOff is the service that `run` makes a container of, named in Services too. What that container needs is planned,
	// with the conditions to wait for, and nothing for the service's replicas.
	OneOff      string
	Timeout     *time.Duration // of stops
	WaitHealthy bool           // `--wait`: wait for running|healthy of everything at the end
	// KeepStopped leaves alone what a user stopped; the loop sets it, `up` doesn't.
	KeepStopped bool
	// AsIs are services whose containers stay as they were made, whatever the stack file says of them by now; of those in
	// Idle what was created and never started stays so. Both are the loop's: what earlier operations asked for.
	AsIs, Idle map[string]bool
	// RollBack are services that go back to what they were: their rollback_config says how.
	RollBack []string
}
