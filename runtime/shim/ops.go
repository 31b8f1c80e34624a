package shim

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/netdriver/loopback6"
)

// Names of the requests, with the types of their bodies and replies.
const (
	OpHello        = "hello"         // - -> Hello
	OpSandbox      = "sandbox"       // SandboxRequest -> SandboxReply
	OpStart        = "start"         // StartRequest, files -> StartReply
	OpSignal       = "signal"        // SignalRequest -> -
	OpRelease      = "release"       // Ref -> -
	OpList         = "list"          // - -> []State
	OpWatch        = "watch"         // - -> -, then events
	OpExec         = "exec"          // ExecRequest, files -> ExecReply, terminal
	OpExecWait     = "exec.wait"     // ExecRef -> ExecExit, when it ends
	OpExecSignal   = "exec.signal"   // ExecRef with Signal -> -
	OpProbe        = "probe"         // ProbeRequest -> ProbeReply, when it has ended
	OpResize       = "resize"        // ResizeRequest -> -
	OpAttachStdin  = "attach.stdin"  // Ref -> -, one file
	OpCloseStdin   = "close.stdin"   // Ref -> -
	OpAttachOutput = "attach.output" // Ref, two files -> -
	OpPause        = "pause"         // Ref -> -
	OpResume       = "resume"        // Ref -> -
	OpUpdate       = "update"        // UpdateRequest -> -
	OpLog          = "log"           // LogRequest -> -
	OpNetwork      = "network"       // NetworkRequest, files -> -
	OpStats        = "stats"         // Ref -> Stats
	OpTop          = "top"           // Ref -> []Process
	OpShutdown     = "shutdown"      // ShutdownRequest -> -
)

// Hello tells who answers.
type Hello struct {
	Version int `json:"version"`
	PID     int `json:"pid"`
}

// Ref names a container.
type Ref struct {
	ID string `json:"id"`
}

// SignalRequest sends a signal to a container's first process, or with All to each of its processes. SIGKILL with All
// goes through the cgroup and leaves none.
type SignalRequest struct {
	ID     string `json:"id"`
	Signal int    `json:"signal"`
	All    bool   `json:"all,omitempty"`
}

// ExecRef names a process started by Exec.
type ExecRef struct {
	ID     string `json:"id"`
	ExecID string `json:"exec_id"`
	Signal int    `json:"signal,omitempty"`
}

// ExecReply comes when the program has been executed.
type ExecReply struct {
	PID int `json:"pid"`
}

// ExecExit is how an exec ended: 128+signal when killed by one.
type ExecExit struct {
	ExitCode int `json:"exit_code"`
}

// ResizeRequest sets the size of a container's terminal, or of an exec's.
type ResizeRequest struct {
	ID     string `json:"id"`
	ExecID string `json:"exec_id,omitempty"`
	Rows   uint16 `json:"rows"`
	Cols   uint16 `json:"cols"`
}

// UpdateRequest changes a running container's limits. Devices are left as they are.
type UpdateRequest struct {
	ID        string                `json:"id"`
	Resources *specs.LinuxResources `json:"resources"`
}

// LogRequest changes how a running container's log is kept. Its driver and path stay.
type LogRequest struct {
	ID  string `json:"id"`
	Log Log    `json:"log"`
}

// NetworkRequest changes what the shim holds and answers for a running container. The frame's files are held from then on,
// beside those held already whose addresses are among Keep ("tcp 0.0.0.0:80"); the others are closed.
type NetworkRequest struct {
	ID       string              `json:"id"`
	Held     int                 `json:"held,omitempty"`
	Keep     []string            `json:"keep,omitempty"`
	Forwards []loopback6.Forward `json:"forwards,omitempty"` // by their place among the new files
	DNS      *dns.Config         `json:"dns,omitempty"`
}

// ShutdownRequest ends the shim. Without Kill it is refused while containers run.
type ShutdownRequest struct {
	Kill bool `json:"kill,omitempty"`
}

// Stats of one container at one moment. Counters run from its start.
type Stats struct {
	Time        time.Time `json:"time"`
	CPU         uint64    `json:"cpu"`        // nanoseconds
	CPUUser     uint64    `json:"cpu_user"`   // nanoseconds
	CPUSystem   uint64    `json:"cpu_system"` // nanoseconds
	Throttled   uint64    `json:"throttled"`  // nanoseconds
	CPUs        int       `json:"cpus"`       // of the host
	Memory      uint64    `json:"memory"`     // bytes, without the inactive page cache
	MemoryCache uint64    `json:"memory_cache"`
	MemoryPeak  uint64    `json:"memory_peak"`
	MemoryLimit uint64    `json:"memory_limit"` // bytes; the host's memory when there is no limit
	OOMKills    uint64    `json:"oom_kills"`
	PIDs        uint64    `json:"pids"`
	PIDsLimit   uint64    `json:"pids_limit"` // 0: none
	BlockRead   uint64    `json:"block_read"` // bytes
	BlockWrite  uint64    `json:"block_write"`
	NetRx       uint64    `json:"net_rx"` // bytes, all interfaces but lo
	NetTx       uint64    `json:"net_tx"`
}

// Process is one line of Top, as ps shows it.
type Process struct {
	PID     int           `json:"pid"` // in the host's namespace
	PPID    int           `json:"ppid"`
	UID     int           `json:"uid"` // in the host's namespace
	Started time.Time     `json:"started"`
	CPU     time.Duration `json:"cpu"`
	TTY     string        `json:"tty"` // "pts/0" or "?"
	Command string        `json:"command"`
}

// ProbeRequest runs a command in a container as exec does, to its end or until it has taken longer than Timeout: then all
// of it is killed.
type ProbeRequest struct {
	ID      string        `json:"id"`
	Args    []string      `json:"args"`
	Timeout time.Duration `json:"timeout"`
	Limit   int           `json:"limit"` // bytes of output that are kept, the first ones
}

// ProbeReply is how the command ended.
type ProbeReply struct {
	ExitCode int    `json:"exit_code"` // 128+signal when killed by one
	Output   string `json:"output,omitempty"`
	TimedOut bool   `json:"timed_out,omitempty"`
}
