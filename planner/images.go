package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// draftPulls pulls what the policies ask for, and makes everything else wait for all pulls: a pull that fails then
// leaves what runs as it is.
func (u *up) draftPulls() {
	builds := u.draftBuilds()
	pulls := map[string]int{} // by reference
	for _, name := range u.graph.order {
		s := u.services[name]
		if s.Image == "" || s.bystander && !s.makesContainers() || s.replicas == 0 && !s.oneOff {
			continue
		}
		_, built := builds[s.Image]
		action, needed := u.pull(s, built)
		if _, planned := pulls[s.Image]; needed && !planned {
			pulls[s.Image] = u.add(rankPull, action)
		}
		if !s.makesContainers() {
			continue
		}
		for i := range s.PreStart {
			hook := *s
			hook.Service = &s.PreStart[i].Service
			_, built := builds[hook.Image]
			action, needed := u.pull(&hook, built)
			if _, planned := pulls[hook.Image]; needed && !planned {
				pulls[hook.Image] = u.add(rankPull, action)
			}
		}
	}
	u.allAfter(pulls, PullImage, BuildImage)
	u.allAfter(builds, BuildImage)
}

// allAfter makes all that would begin at once wait for actions, but what is of some kinds.
func (u *up) allAfter(actions map[string]int, except ...Kind) {
	ids := slices.Collect(maps.Values(actions))
	for _, id := range u.starved(except...) {
		u.after(id, ids...)
	}
}

// pull decides by the policy whether the service's image is pulled, after a build of it if it is built.
func (u *up) pull(s *course, built bool) (Action, bool) {
	image := u.observed.Images[s.Image]
	policy := u.policy(s)
	action := Action{
		Kind: PullImage, Address: spec.ImageAddress(s.Image).String(), Name: s.Image, Service: s.Name,
		Reason: PolicyAsks, Detail: policy,
	}
	switch {
	case image == nil && built:
		return action, policy == "always" && !u.opts.Pulled[s.Image]
	case image == nil && !s.makesContainers():
		return Action{}, policy == "always" && !u.opts.Pulled[s.Image]
	case image == nil && policy == "never":
		u.problem(Problem{
			Kind: ErrImageMissing, Address: spec.ServiceAddress(s.Name).String(), Position: s.Position,
			Summary: fmt.Sprintf("the image %s is not in the store, and its pull policy is never", s.Image),
			Remedy:  fmt.Sprintf("run `stack pull %s` or `stack image load`, or set another pull_policy", s.Name),
		})
		return Action{}, false
	case image == nil:
		action.Reason, action.Detail = Missing, ""
		return action, true
	case u.opts.Pulled[s.Image]:
		return Action{}, false
	case policy == "always":
		return action, true
	case refreshes(policy):
		return action, image.Stale
	}
	return Action{}, false
}

// policy is the service's pull_policy, or what the command line says instead.
func (u *up) policy(s *course) string {
	if u.opts.Pull != "" && u.opts.Pull != "policy" {
		return u.opts.Pull
	}
	return s.PullPolicy
}

// refreshes tells whether a policy pulls again once the image in the store has some age.
func refreshes(policy string) bool {
	return policy == "daily" || policy == "weekly" || strings.HasPrefix(policy, "every_")
}

// makesContainers tells whether the plan, or the run that it is for, makes a container of the service.
func (s *course) makesContainers() bool { return s.added || s.recreated || s.oneOff }
