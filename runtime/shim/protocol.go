// Package shim is the protocol between the daemon and a stack's shim, and both of its ends.
//
// stack-shim is one process per stack, the parent of the stack's containers. It outlives the daemon: it keeps exit
// codes, writes logs, answers DNS, and holds network namespaces and port reservations while no daemon runs. It keeps no
// policy: it starts what it is told to and reports what happened.
//
// A connection to <run-dir>/shims/<stack>/shim.sock carries frames: a 4-byte big-endian length, then JSON. The client
// sends Request frames, the server answers each by a Reply frame with the same ID, in any order. After a Watch request the
// server also sends Event frames. Files (stdio, ports) travel as SCM_RIGHTS with the frame that names them. Requests
// are idempotent, so that a daemon that died between a request and its reply may send it again.
package shim

import (
	"time"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/loopback6"
)

// Version of the protocol. A daemon speaks to shims of its own version and older.
const Version = 1

// SandboxRequest makes, or finds, the network namespace of a container.
type SandboxRequest struct {
	ID string `json:"id"` // container id
	// UIDs and GIDs, when not empty, ask for a user namespace that owns the network namespace.
	UIDs []IDMap `json:"uids,omitempty"`
	GIDs []IDMap `json:"gids,omitempty"`
	// Sysctls of the network namespace (net.*), set at once.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// HostNetwork asks for the user namespace only.
	HostNetwork bool `json:"host_network,omitempty"`
}

// IDMap maps a range of ids, as in /proc/<pid>/uid_map.
type IDMap struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}

// SandboxReply names the namespaces by path; they stay while the shim lives and the sandbox is not released.
type SandboxReply struct {
	Netns  string `json:"netns,omitempty"`
	Userns string `json:"userns,omitempty"`
}

// StartRequest starts a container from its bundle. The reply comes when the container's program has been executed, or
// could not be.
type StartRequest struct {
	ID string `json:"id"`
	// Bundle is the folder with config.json; the root filesystem goes to its rootfs folder.
	Bundle string  `json:"bundle"`
	Rootfs []Mount `json:"rootfs,omitempty"` // mounted before, detached from the host after the start
	// Runtime is empty for libcontainer in the shim, or the path of an OCI runtime program.
	Runtime     string      `json:"runtime,omitempty"`
	RuntimeArgs []string    `json:"runtime_args,omitempty"`
	Log         Log         `json:"log"`
	DNS         *dns.Config `json:"dns,omitempty"`
	// StdinOpen keeps the standard input open for Attach.
	StdinOpen bool `json:"stdin_open,omitempty"`
	// StdinOnce closes the standard input for good when the client that attached to it goes away (`run -i`).
	StdinOnce bool `json:"stdin_once,omitempty"`
	// Attach says that the frame's first two files get a copy of the output from its first byte (both the same for a terminal).
	Attach bool `json:"attach,omitempty"`
	// Held says that the frame carries files which the shim keeps open until the container is released: port reservations.
	// A later start without any leaves the earlier ones in place.
	Held int `json:"held,omitempty"`
	// Forwards are held files that the shim serves itself, by their place among the held ones: IPv6 clients that address
	// translation can't serve.
	Forwards []loopback6.Forward `json:"forwards,omitempty"`
	// Rows and Cols are the first size of the container's terminal; zero leaves it to the bundle.
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
}

// Mount as mount(8) takes it. The option idmap shows the files with the owners they have in the user namespace that the
// bundle joins.
type Mount struct {
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Options []string `json:"options,omitempty"`
}

// Log is where and how a container's output is kept.
type Log struct {
	Driver   string `json:"driver"`             // json-file, local, none
	Path     string `json:"path,omitempty"`     // of the current file
	MaxSize  int64  `json:"max_size,omitempty"` // bytes before rotation, 0: never
	MaxFiles int    `json:"max_files,omitempty"`
	Compress bool   `json:"compress,omitempty"`
	// Tag and Attrs of json-file's labels and env options.
	Attrs map[string]string `json:"attrs,omitempty"`
}

// StartReply tells the process id of the container's first process in the host's pid namespace.
type StartReply struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// Status of a container as the shim sees it.
type Status string

const (
	Sandboxed Status = "sandbox" // namespaces only
	Running   Status = "running"
	Paused    Status = "paused"
	Exited    Status = "exited"
)

// State of one container. It is also written to <bundle>/state.json at each change, so that an exit is not lost with
// the shim.
type State struct {
	ID       string    `json:"id"`
	Status   Status    `json:"status"`
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	ExitCode int       `json:"exit_code,omitempty"` // 128+signal when killed by one
	OOM      bool      `json:"oom,omitempty"`
	// Killed says that its first process got a SIGKILL that nobody in the container could have sent, and that was not the
	// kernel's for want of memory.
	Killed bool   `json:"killed,omitempty"`
	Error  string `json:"error,omitempty"`
	Netns  string `json:"netns,omitempty"`
}

// Kinds of events. KindState tells a state that was there before the watch began.
const (
	KindState    = "state"
	KindStart    = "start"
	KindExit     = "exit"
	KindOOM      = "oom" // follows the exit of a container of which the kernel killed a process for memory
	KindPause    = "pause"
	KindResume   = "resume"
	KindReleased = "released"
)

// Event is a change of a container's state.
type Event struct {
	Kind  string    `json:"kind"`
	Time  time.Time `json:"time"`
	State State     `json:"state"`
}

// ExecRequest runs one more process in a container. Three files come with the frame (stdin, stdout, stderr) unless TTY,
// in which case the reply carries the terminal's master side, or Hook.
type ExecRequest struct {
	ID         string   `json:"id"`
	ExecID     string   `json:"exec_id"`
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"` // added to the container's own
	Cwd        string   `json:"cwd,omitempty"`
	User       string   `json:"user,omitempty"` // as in `user:`; empty is the container's
	TTY        bool     `json:"tty,omitempty"`
	Rows       uint16   `json:"rows,omitempty"`
	Cols       uint16   `json:"cols,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	// Hook names the lifecycle hook that the process is. Its output goes to the container's log, each line marked with the
	// attribute hook, and no files come with the frame.
	Hook string `json:"hook,omitempty"`
}
