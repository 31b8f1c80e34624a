package planner

import (
	"fmt"
	"slices"
	"time"

	"github.com/stack-run/stack/spec"
)

// StartOptions of a start.
type StartOptions struct {
	Services []string // named by the user; empty is all. What they depend on comes along.
	Wait     bool     // until all run and are healthy
}

// Start plans `start`: existing containers in dependency order, with the conditions of depends_on. A one-shot service
// that has completed is run again only when it is named. desired may be nil.
func Start(observed *Observed, desired *spec.Stack, opts StartOptions) (Plan, error) {
	u, err := newOnExisting(observed, desired, Options{Services: opts.Services, WaitHealthy: opts.Wait})
	if err != nil {
		return Plan{}, err
	}
	for _, name := range u.graph.order {
		s := u.services[name]
		if s.bystander {
			continue
		}
		for _, c := range s.containers {
			f := newFate(keep, c, c.Replica, Requested)
			switch {
			case f.stopCutOff():
				f.what, f.start, f.reason = restart, true, StopUnfinished
			case c.State == Created:
				f.start = true
			case c.State == Exited:
				f.start, f.detail = !u.done(s, c) || slices.Contains(opts.Services, name), exitCode(c)
			case c.State == Paused:
				u.note(containerAddress(c), "the container "+c.Name+" is paused", "use `stack unpause "+name+"`")
			}
			s.fates = append(s.fates, f)
			s.restarted = s.restarted || f.what == restart
			s.revived = s.revived || f.what == keep && f.start
		}
	}
	u.draftServices()
	u.linkServices()
	u.waitForAll()
	switchJobs(&u.draft, observed, opts.Services, ResumeJob)
	return u.seal()
}

// RestartOptions of a restart.
type RestartOptions struct {
	Services []string // named by the user; empty is all
	NoDeps   bool     // without the dependents that say `restart: true`
	Timeout  *time.Duration
}

// Restart plans `restart`: of the named services and of dependents that say `restart: true`, which stop before what
// they depend on and start after it. Services without such a tie restart at the same time. What doesn't run is
// started. desired may be nil.
func Restart(observed *Observed, desired *spec.Stack, opts RestartOptions) (Plan, error) {
	u, err := newOnExisting(observed, desired, Options{Services: opts.Services, NoDeps: true, Timeout: opts.Timeout})
	if err != nil {
		return Plan{}, err
	}
	u.opts.NoDeps = opts.NoDeps // that dependencies are left alone doesn't mean that dependents are
	for _, name := range u.graph.order {
		s := u.services[name]
		s.links = slices.DeleteFunc(slices.Clone(s.links), func(l link) bool { return !l.follows() })
		for _, c := range s.containers {
			f := newFate(keep, c, c.Replica, Requested)
			switch {
			case s.bystander:
				if !opts.NoDeps {
					u.follow(s, f)
				}
			case hasProcess(c):
				f.what, f.start = restart, true
			default:
				f.start = true
			}
			s.fates = append(s.fates, f)
			s.restarted = s.restarted || f.what == restart
			s.revived = s.revived || f.what == keep && f.start
		}
	}
	u.draftServices()
	u.linkServices()
	return u.seal()
}

// newOnExisting prepares to start containers that exist; a chosen service without any is a problem.
func newOnExisting(observed *Observed, desired *spec.Stack, opts Options) (*up, error) {
	if desired == nil {
		desired = observedStack(observed)
	}
	u, err := newUp(desired, observed, opts)
	if err != nil {
		return nil, err
	}
	for _, name := range u.graph.order {
		s := u.services[name]
		missing := len(s.containers) == 0 && s.replicas > 0
		half := slices.ContainsFunc(s.containers, func(c *Container) bool { return c.State == Broken })
		if !s.bystander && (missing || half) {
			u.problem(Problem{
				Kind: ErrNoContainer, Address: spec.ServiceAddress(name).String(), Position: s.Position,
				Summary: fmt.Sprintf("service %s has no container to start", name), Remedy: "run `stack up " + name + "` to make one",
			})
		}
		s.replicas = len(s.containers)
	}
	return u, u.problems.err()
}
