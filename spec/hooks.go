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

// InitContainer is a pre_start hook: a container that runs to its end before the service's containers start, made from what the
// service says as far as the hook does not say otherwise. Beside its own mounts it has those of the container that it is run for.
type InitContainer struct {
	Service
	// PerReplica runs it for each container of the service, and not once for all of them.
	PerReplica bool `json:"per_replica,omitempty"`
}

// PreStartHooks tells which of the pre_start hooks are for each replica, or which are not, by their places in the list.
func (s *Service) PreStartHooks(perReplica bool) []int {
	var places []int
	for i, h := range s.PreStart {
		if h.PerReplica == perReplica {
			places = append(places, i)
		}
	}
	return places
}
