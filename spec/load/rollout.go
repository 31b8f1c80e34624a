package load

import (
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// rollouts takes in how the service's containers are replaced, and what its name stands for meanwhile.
func (c *converter) rollouts(at []string, s types.ServiceConfig, out *spec.Service) {
	if s.Deploy == nil {
		return
	}
	deploy := join(at, "deploy")
	out.UpdateConfig = c.rollout(join(deploy, "update_config"), s.Deploy.UpdateConfig, true)
	out.RollbackConfig = c.rollout(join(deploy, "rollback_config"), s.Deploy.RollbackConfig, false)
	for name, r := range map[string]*spec.Rollout{"update_config": out.UpdateConfig, "rollback_config": out.RollbackConfig} {
		if r != nil && r.Order == spec.StartFirst {
			c.checkStartFirst(join(deploy, name, "order"), out, r)
		}
	}
	here := join(deploy, "endpoint_mode")
	switch s.Deploy.EndpointMode {
	case "", spec.DNSRR:
	case spec.VIP:
		if out.NetworkMode != "" {
			c.refuse(here, "take it out, or give the service networks", "a service with network_mode %s can't have a virtual address", out.NetworkMode)
		}
	default:
		c.refuse(here, "use vip or dnsrr", "invalid endpoint mode %q", s.Deploy.EndpointMode)
	}
	out.EndpointMode = s.Deploy.EndpointMode
}

func (c *converter) rollout(at []string, u *types.UpdateConfig, update bool) *spec.Rollout {
	if u == nil {
		return nil
	}
	r := &spec.Rollout{
		Parallelism: 1, Delay: time.Duration(u.Delay), FailureAction: u.FailureAction,
		Monitor: time.Duration(u.Monitor), MaxFailureRatio: float64(u.MaxFailureRatio), Order: u.Order,
	}
	if u.Parallelism != nil {
		r.Parallelism = int(*u.Parallelism)
	}
	if c.tree.root.get(join(at, "monitor")...) == nil {
		r.Monitor = spec.DefaultMonitor
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"delay", r.Delay}, {"monitor", r.Monitor}} {
		if d.value < 0 {
			c.refuse(join(at, d.name), durationRemedy, "%s can't be negative", d.name)
		}
	}
	if r.MaxFailureRatio < 0 || r.MaxFailureRatio > 1 {
		c.refuse(join(at, "max_failure_ratio"), "use a number from 0 to 1", "invalid ratio %v", u.MaxFailureRatio)
	}
	switch r.Order {
	case "", spec.StartFirst, spec.StopFirst:
	default:
		c.refuse(join(at, "order"), "use start-first or stop-first", "invalid order %q", r.Order)
	}
	switch r.FailureAction {
	case "":
		r.FailureAction = spec.Pause
	case spec.Pause, spec.Continue:
	case spec.Rollback:
		if !update {
			c.refuse(join(at, "failure_action"), "use pause or continue", "a rollback that fails can't be rolled back")
		}
	default:
		remedy := "use pause, continue or rollback"
		if !update {
			remedy = "use pause or continue"
		}
		c.refuse(join(at, "failure_action"), remedy, "invalid failure action %q", r.FailureAction)
	}
	return r
}

// checkStartFirst refuses start-first where two containers of the service can't be at the same time.
func (c *converter) checkStartFirst(at []string, s *spec.Service, r *spec.Rollout) {
	const remedy = "use stop-first"
	if what := s.Single(); what != "" {
		c.refuse(at, remedy, "start-first needs two containers at a time, and %s", what)
	}
	for _, p := range s.Ports {
		// Without a limit all are replaced at once.
		extra := r.Parallelism
		if extra == 0 || extra > s.Replicas {
			extra = s.Replicas
		}
		if n := p.Choices(); n > 1 && n < s.Replicas+extra {
			c.refuse(at, remedy+", or publish a wider range", "start-first needs %d ports at a time, and the range %s has %d",
				s.Replicas+extra, p.Published, n)
		}
	}
}
