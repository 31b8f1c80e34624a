package load

import (
	"slices"
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

// workloadOnly are the attributes that services and jobs have and a pre_start hook has not.
var workloadOnly = []string{"build", "depends_on", "expose", "healthcheck", "ports", "profiles", "stdin_open", "tty", extensionKey}

// hookRules gives pre_start hooks the verdicts on services' attributes.
func hookRules(root *rule) {
	services, hooks := root.insert("services.*"), root.insert("services.*.pre_start.[]")
	for attribute, r := range services.next {
		if !slices.Contains(serviceOnly, attribute) && !slices.Contains(workloadOnly, attribute) {
			hooks.next[attribute] = r
		}
	}
}

// preStart takes in the pre_start hooks of a service. compose-go has given each what it inherits.
func (c *converter) preStart(at []string, s types.ServiceConfig) []spec.InitContainer {
	var hooks []spec.InitContainer
	for i, h := range s.PreStart {
		here := join(at, spec.PreStart, strconv.Itoa(i))
		init := spec.InitContainer{
			Service:    *c.workload(here, types.ServiceConfig{Name: s.Name, ContainerSpec: h.ContainerSpec}),
			PerReplica: h.PerReplica,
		}
		init.Policy, init.Position = nil, ""
		c.checkReferences(here, &init.Service)
		hooks = append(hooks, init)
	}
	return hooks
}

// hooksAsServices puts what the hooks are made from among the services, so that compose-go sees what they use; the returned
// function takes it out again.
func hooksAsServices(project *types.Project) func(*types.Project) {
	var names []string
	for _, service := range project.ServiceNames() {
		for i, h := range project.Services[service].PreStart {
			name := service + " " + spec.PreStart + " " + strconv.Itoa(i) // no service's: names have no blanks
			names = append(names, name)
			project.Services[name] = types.ServiceConfig{Name: name, ContainerSpec: h.ContainerSpec}
		}
	}
	return func(project *types.Project) {
		for _, name := range names {
			delete(project.Services, name)
		}
	}
}
