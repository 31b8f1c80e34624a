package planner

import "github.com/stack-run/stack/spec"

// Building says which images are made by the commands that services give for it (x-stack build) before an `up` is planned.
type Building string

const (
	BuildNothing Building = ""        // what was to be built has been
	BuildMissing Building = "missing" // those that are not in the store
	BuildAll     Building = "always"  // --build
)

// draftBuilds plans the builds that the command is going to have done, by reference. A daemon has no such: it is given a stack
// whose images are built.
func (u *up) draftBuilds() map[string]int {
	builds := map[string]int{}
	for _, name := range u.graph.order {
		action, needed := u.build(u.services[name])
		if _, planned := builds[action.Name]; needed && !planned {
			builds[action.Name] = u.add(rankBuild, action)
		}
	}
	return builds
}

// build decides whether the service's image is built.
func (u *up) build(s *course) (Action, bool) {
	if s.bystander || s.Policy == nil || s.Policy.Build == "" {
		return Action{}, false
	}
	action := Action{Kind: BuildImage, Address: spec.ImageAddress(s.Image).String(), Name: s.Image, Service: s.Name, Reason: Missing}
	switch {
	case u.opts.Build == BuildNothing:
		return Action{}, false
	case u.observed.Images[s.Image] == nil:
		return action, true
	}
	action.Reason, action.Detail = Requested, "--build"
	return action, u.opts.Build == BuildAll
}
