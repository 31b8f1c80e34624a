package spec

// Hook is a command that is run in a container of a service at a moment of its life.
type Hook struct {
	Command     []string          `json:"command"`
	User        string            `json:"user,omitempty"`
	Privileged  bool              `json:"privileged,omitempty"`
	WorkingDir  string            `json:"working_dir,omitempty"`
	Environment map[string]string `json:"environment,omitempty"` // beside the container's own
}

// Kinds of hooks, in the words of the stack file.
const (
	PreStart  = "pre_start"
	PostStart = "post_start"
	PreStop   = "pre_stop"
)
