package spec

// Develop is what `watch` does with a service. It takes no part in the digest: it is about files on the host and about
// containers that are there, never about what a container is made from.
type Develop struct {
	// Context is the folder of `build`, whose .dockerignore counts for all rules; empty without a build.
	Context string `json:"context,omitempty"`
	// Dockerfile is its path as `build` gives it: <Dockerfile>.dockerignore comes before .dockerignore.
	Dockerfile string      `json:"dockerfile,omitempty"`
	Watch      []WatchRule `json:"watch,omitempty"`
}

// Actions of a watch rule.
const (
	WatchSync        = "sync"
	WatchRestart     = "restart"
	WatchSyncRestart = "sync+restart"
	WatchSyncExec    = "sync+exec"
	WatchRebuild     = "rebuild"
)

// WatchRule is one entry of develop.watch: what is done when files below a path change.
type WatchRule struct {
	Path        string     `json:"path"`             // absolute; a folder with all below it, or a file
	Target      string     `json:"target,omitempty"` // absolute path in the container that stands for Path
	Action      string     `json:"action"`
	Include     []string   `json:"include,omitempty"` // patterns as in .dockerignore, relative to Path
	Ignore      []string   `json:"ignore,omitempty"`
	InitialSync bool       `json:"initial_sync,omitempty"`
	Exec        *WatchExec `json:"exec,omitempty"`
	// Position of the rule's action in the stack file, for diagnostics: file:line:column.
	Position string `json:"position,omitempty"`
}

// WatchExec is the command of sync+exec, run in every container of the service.
type WatchExec struct {
	Command     []string          `json:"command"`
	User        string            `json:"user,omitempty"`
	Privileged  bool              `json:"privileged,omitempty"`
	WorkingDir  string            `json:"working_dir,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
}

// Syncs tells whether the rule copies files into containers.
func (r *WatchRule) Syncs() bool {
	return r.Action == WatchSync || r.Action == WatchSyncRestart || r.Action == WatchSyncExec
}
