// Package api is what travels between the stack command and the daemon: HTTP with JSON on a root-only unix socket.
//
// Long operations answer with a stream of Event, one JSON object a line (application/x-ndjson); the last one has Kind
// "result". Everything else answers with one JSON value, or with an Error and a status code of 4xx or 5xx.
package api

import (
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// Version of the API, part of every path: /v1/...
const Version = "v1"

// Error is the body of a failed request and of a failed result.
type Error struct {
	Code    Code   `json:"code"`
	Address string `json:"address,omitempty"` // service.web[2], network.front, ...
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	// Logs are the last log lines of the container that failed.
	Logs []string `json:"logs,omitempty"`
	// ExitCode that the command should end with, where it is not 1.
	ExitCode int `json:"exit_code,omitempty"`
	// All errors when several actions failed; this one is the first.
	Others []Error `json:"others,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Code classifies errors, for scripts and for the client.
type Code string

const (
	NotFound    Code = "not_found"
	Conflict    Code = "conflict"
	Invalid     Code = "invalid"
	Unavailable Code = "unavailable" // registry, network
	Denied      Code = "denied"
	NoSpace     Code = "no_space"
	ReadOnly    Code = "read_only" // a file system
	Timeout     Code = "timeout"
	Canceled    Code = "canceled"
	Failed      Code = "failed" // a container exited or is unhealthy
	Internal    Code = "internal"
)

// Event is one line of a long operation's stream.
type Event struct {
	Kind    string    `json:"kind"` // start, done, fail, progress, note, warning, result
	Time    time.Time `json:"time"`
	Address string    `json:"address,omitempty"` // what it is about
	Name    string    `json:"name,omitempty"`    // host name: container, network, volume, image reference
	Action  string    `json:"action,omitempty"`  // planner.Kind
	Reason  string    `json:"reason,omitempty"`
	Text    string    `json:"text,omitempty"`
	ID      int       `json:"id,omitempty"` // of the action in its plan
	// progress of a pull
	Layer string `json:"layer,omitempty"`
	Phase string `json:"phase,omitempty"`
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`

	Error  *Error  `json:"error,omitempty"`  // of fail, and of a result that is not success
	Result *Result `json:"result,omitempty"` // of a result
}

// Result ends a stream.
type Result struct {
	Changed    int         `json:"changed"`              // actions done
	Containers []Container `json:"containers,omitempty"` // the stack's, after an up that asks for them
	ExitCode   int         `json:"exit_code,omitempty"`
	Container  string      `json:"container,omitempty"` // id of a one-off container
}

// UpRequest asks for a convergence (up, create, scale), or with DryRun for its plan.
type UpRequest struct {
	Stack   *spec.Stack     `json:"stack"`
	Options planner.Options `json:"options"`
	// Wait makes the operation end when everything runs or is healthy (`--wait`), at the latest after WaitTimeout.
	Wait        bool          `json:"wait,omitempty"`
	WaitTimeout time.Duration `json:"wait_timeout,omitempty"`
	QuietPull   bool          `json:"quiet_pull,omitempty"`
	// Containers asks for those of the whole stack in the result.
	Containers bool `json:"containers,omitempty"`
	// Command and Ref that the revision is recorded with; an empty Command is up.
	Command string `json:"command,omitempty"`
	Ref     string `json:"ref,omitempty"`
	// Expect is what a plan was made from that was shown or saved: the request is refused when it is not so any more.
	Expect *planner.Basis `json:"expect,omitempty"`
	// Explain are addresses to explain in the plan.
	Explain []string `json:"explain,omitempty"`
}

// OpRequest asks for an operation on what runs: stop, start, restart, kill, rm, down, pause, unpause.
type OpRequest struct {
	Stack         *spec.Stack    `json:"stack,omitempty"` // the stack file's, where there is one
	Services      []string       `json:"services,omitempty"`
	Timeout       *time.Duration `json:"timeout,omitempty"`
	Signal        string         `json:"signal,omitempty"`  // kill
	NoDeps        bool           `json:"no_deps,omitempty"` // restart
	Force         bool           `json:"force,omitempty"`   // rm: stopped or not
	Stop          bool           `json:"stop,omitempty"`    // rm -s
	Volumes       bool           `json:"volumes,omitempty"` // rm -v, down -v
	Images        string         `json:"images,omitempty"`  // down --rmi: local, all
	RemoveOrphans bool           `json:"remove_orphans,omitempty"`
	Wait          bool           `json:"wait,omitempty"` // start --wait
	WaitTimeout   time.Duration  `json:"wait_timeout,omitempty"`
}

// PullRequest pulls the images of services.
type PullRequest struct {
	Stack          *spec.Stack `json:"stack"`
	Services       []string    `json:"services,omitempty"`
	Policy         string      `json:"policy,omitempty"` // missing, always
	IncludeDeps    bool        `json:"include_deps,omitempty"`
	IgnoreFailures bool        `json:"ignore_failures,omitempty"`
}

// RunRequest makes and starts a one-off container of a service; what it prints is attached to afterwards.
type RunRequest struct {
	Stack        *spec.Stack  `json:"stack"`
	Service      spec.Service `json:"service"` // as in the file, with the command line's changes applied
	Name         string       `json:"name,omitempty"`
	NoDeps       bool         `json:"no_deps,omitempty"`
	Remove       bool         `json:"remove,omitempty"` // when it exits
	ServicePorts bool         `json:"service_ports,omitempty"`
	UseAliases   bool         `json:"use_aliases,omitempty"`
	Pull         string       `json:"pull,omitempty"`
	// Attach leaves the container created: the session that attaches to it starts it, so that none of its output is lost.
	Attach bool `json:"attach,omitempty"`
}

// Container is one container as `ps` shows it.
type Container struct {
	ID       string                    `json:"id"`
	Name     string                    `json:"name"`
	Stack    string                    `json:"stack"`
	Service  string                    `json:"service"`
	Replica  int                       `json:"replica"`
	Address  string                    `json:"address"`
	OneOff   bool                      `json:"one_off,omitempty"`
	Hook     string                    `json:"hook,omitempty"` // that it runs for another container: pre_start
	Image    string                    `json:"image"`
	ImageID  string                    `json:"image_id"`
	Command  string                    `json:"command"`
	Created  time.Time                 `json:"created"`
	Started  time.Time                 `json:"started,omitzero"`
	Finished time.Time                 `json:"finished,omitzero"`
	State    string                    `json:"state"`            // planner's states
	Health   string                    `json:"health,omitempty"` // planner's health states
	ExitCode int                       `json:"exit_code"`
	OOM      bool                      `json:"oom,omitempty"`
	Error    string                    `json:"error,omitempty"`
	PID      int                       `json:"pid,omitempty"`
	Restarts int                       `json:"restarts,omitempty"`
	Ailing   int                       `json:"unhealthy_restarts,omitempty"` // for ill health, since it was well for a while
	NextTry  time.Time                 `json:"next_try,omitzero"`            // of a restart under back-off
	Ports    []PublishedPort           `json:"ports,omitempty"`
	Labels   map[string]string         `json:"labels,omitempty"`
	Networks map[string]NetworkAddress `json:"networks,omitempty"` // by host name
	Mounts   []string                  `json:"mounts,omitempty"`
	TTY      bool                      `json:"tty,omitempty"`
	// HealthLog is the last result of the health check in this run that this daemon has seen.
	HealthLog *HealthProbe `json:"health_log,omitempty"`
}

// HealthProbe is one run of a health check.
type HealthProbe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exit_code"` // -1 when there is none: Output says why
	Output   string    `json:"output,omitempty"`
}

// PublishedPort of a container; one entry for each host address.
type PublishedPort struct {
	HostIP    string `json:"host_ip"`
	Published int    `json:"published"` // 0: exposed only
	Target    int    `json:"target"`
	Protocol  string `json:"protocol"`
}

// NetworkAddress of a container on one network.
type NetworkAddress struct {
	IPv4    string   `json:"ipv4,omitempty"`
	IPv6    string   `json:"ipv6,omitempty"`
	MAC     string   `json:"mac,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
}

// StackSummary is a line of `ls`.
type StackSummary struct {
	Name   string         `json:"name"`
	Files  []string       `json:"files"`
	States map[string]int `json:"states"` // state to number of containers
}

// LogRequest selects log entries.
type LogRequest struct {
	Services   []string  `json:"services,omitempty"`
	Containers []string  `json:"containers,omitempty"` // ids or names
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	Tail       int       `json:"tail"` // -1: all
	Follow     bool      `json:"follow,omitempty"`
	OneOff     bool      `json:"one_off,omitempty"`
	Index      int       `json:"index,omitempty"` // of one replica only; 0: of all
	// After resumes a request: of these containers, by id, only what came after the given entries.
	After map[string]time.Time `json:"after,omitempty"`
}

// LogEntry is one line of a container's output, or with Event an exit or start seen while following.
type LogEntry struct {
	Container string    `json:"c"` // name
	ID        string    `json:"i,omitempty"`
	Service   string    `json:"s"`
	Replica   int       `json:"n,omitempty"`
	Time      time.Time `json:"t"`
	Stream    string    `json:"o,omitempty"` // stdout, stderr
	Line      string    `json:"l"`           // without its newline
	Partial   bool      `json:"p,omitempty"` // no newline followed
	Hook      string    `json:"h,omitempty"` // the lifecycle hook that wrote it: pre_start, post_start, pre_stop
	Event     string    `json:"e,omitempty"` // start, exit, remove
	ExitCode  int       `json:"x,omitempty"`
}

// ExecRequest runs a command in a running container.
type ExecRequest struct {
	Service     string   `json:"service"`
	Index       int      `json:"index,omitempty"`     // replica; 0 is the first
	Container   string   `json:"container,omitempty"` // instead of a service
	Args        []string `json:"args"`
	Env         []string `json:"env,omitempty"`
	Cwd         string   `json:"cwd,omitempty"`
	User        string   `json:"user,omitempty"`
	TTY         bool     `json:"tty,omitempty"`
	Interactive bool     `json:"interactive,omitempty"`
	Privileged  bool     `json:"privileged,omitempty"`
	Detach      bool     `json:"detach,omitempty"`
	Rows        uint16   `json:"rows,omitempty"`
	Cols        uint16   `json:"cols,omitempty"`
}

// Image is a line of `images` and `image ls`.
type Image struct {
	ID        string    `json:"id"`
	Names     []string  `json:"names"`
	Digest    string    `json:"digest,omitempty"`
	Size      int64     `json:"size"`
	Created   time.Time `json:"created"`
	Platform  string    `json:"platform"`
	Container string    `json:"container,omitempty"` // `images`: who uses it
	UsedBy    []string  `json:"used_by,omitempty"`
}

// Volume and Network as `volume inspect` and `network inspect` show them.
type Volume struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Mountpoint string            `json:"mountpoint"`
	Options    map[string]string `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Created    time.Time         `json:"created"`
	Stack      string            `json:"stack,omitempty"`
	UsedBy     []string          `json:"used_by,omitempty"`
	Anonymous  bool              `json:"anonymous,omitempty"`
}

// Network as `network inspect` shows it.
type Network struct {
	Name       string                    `json:"name"`
	ID         string                    `json:"id"`
	Driver     string                    `json:"driver"`
	Internal   bool                      `json:"internal"`
	IPv6       bool                      `json:"ipv6"`
	Subnets    []string                  `json:"subnets"`
	Gateways   []string                  `json:"gateways,omitempty"`
	Options    map[string]string         `json:"options,omitempty"`
	Labels     map[string]string         `json:"labels,omitempty"`
	Created    time.Time                 `json:"created"`
	Stack      string                    `json:"stack,omitempty"`
	Link       string                    `json:"link,omitempty"`
	Containers map[string]NetworkAddress `json:"containers,omitempty"` // by name
}

// DaemonInfo answers GET /v1/version.
type DaemonInfo struct {
	Version string `json:"version"`
	API     string `json:"api"`
	Root    string `json:"root"`
	RunDir  string `json:"run_dir"`
	PID     int    `json:"pid"`
	Cgroup  string `json:"cgroup"` // v1, v2
	Kernel  string `json:"kernel"`
}
