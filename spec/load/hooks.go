package load

import (
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// hooks takes in post_start or pre_stop.
func (c *converter) hooks(at []string, list []types.ServiceHook) []spec.Hook {
	var hooks []spec.Hook
	for i, h := range list {
		here := join(at, strconv.Itoa(i))
		if len(h.Command) == 0 || h.Command[0] == "" {
			c.refuse(join(here, "command"), "give it a command", "the hook has no command")
		}
		hooks = append(hooks, spec.Hook{
			Command: h.Command, User: h.User, Privileged: h.Privileged, WorkingDir: h.WorkingDir,
			Environment: c.hookEnvironment(h.Environment),
		})
	}
	return hooks
}

// hookEnvironment completes variables without a value by the environment that the stack file is resolved against, as for a
// service; those it lacks are left out.
func (c *converter) hookEnvironment(m types.MappingWithEquals) map[string]string {
	if len(m) == 0 {
		return nil
	}
	env := make(map[string]string, len(m))
	for name, value := range m {
		if value != nil {
			env[name] = *value
		} else if own, ok := c.project.Environment[name]; ok {
			env[name] = own
		}
	}
	return env
}
