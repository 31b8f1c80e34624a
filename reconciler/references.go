package reconciler

import (
	"os"
	"strings"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// observeReferences looks at what services refer to in other stacks: the desired states of all stacks on the way, so that
// circles are found, and the containers of those services.
func (r *Reconciler) observeReferences(o *planner.Observed, desired *spec.Stack) error {
	var follow func(s *spec.Stack) error
	follow = func(s *spec.Stack) error {
		for _, svc := range s.Services {
			if svc.Policy == nil {
				continue
			}
			for name := range svc.Policy.DependsOn {
				stack, service, _ := strings.Cut(name, "/")
				other := o.Others[stack]
				if other == nil && stack != o.Stack {
					var err error
					if other, err = r.observeOther(stack); err != nil {
						return err
					}
					if o.Others == nil {
						o.Others = map[string]*planner.Other{}
					}
					o.Others[stack] = other
					if other.Desired != nil {
						if err := follow(other.Desired); err != nil {
							return err
						}
					}
				}
				if s == desired && other != nil {
					for _, v := range r.engine.Service(stack, service) {
						other.Containers = append(other.Containers, r.observeContainer(v))
					}
				}
			}
		}
		return nil
	}
	return follow(desired)
}

// observeOther reads another stack's desired state, if there is such a stack.
func (r *Reconciler) observeOther(name string) (*planner.Other, error) {
	if _, err := os.Stat(r.stackDir(name)); err != nil { // a typing error makes no stack
		return &planner.Other{}, nil //nolint:nilerr // what is not there is told by the plan
	}
	desired, err := r.desiredState(r.stack(name))
	return &planner.Other{Desired: desired}, err
}
