package runtime

import (
	"fmt"

	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/spec"
)

// Check refuses what this host can't do for a service, before anything is touched.
func (e *Engine) Check(s *spec.Service) error {
	if _, err := e.program(s.Runtime); err != nil {
		return err
	}
	if l := s.Logging; l != nil {
		switch l.Driver {
		case "", "json-file", "local", "none":
		default:
			return fmt.Errorf("logging.driver %q is not supported; use json-file, local or none", l.Driver)
		}
		if _, err := e.logConfig(View{Record: Record{Spec: *s}}); err != nil {
			return err
		}
	}
	if err := e.checkIDs(s); err != nil {
		return err
	}
	_, _, err := bundle.Resources(s, e.host)
	return err
}
