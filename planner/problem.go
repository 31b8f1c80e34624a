package planner

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// Why no plan can be made. Problem.Kind is one of these.
var (
	ErrUnknownService = errors.New("no such service")
	ErrImageMissing   = errors.New("image is missing")
	ErrNotFound       = errors.New("not found")
	ErrInUse          = errors.New("in use")
	ErrNameTaken      = errors.New("name is taken")
	ErrScale          = errors.New("impossible scale")
	ErrNoContainer    = errors.New("no container")
	ErrCycle          = errors.New("dependency cycle")
	ErrCondition      = errors.New("condition can't be met")
)

// Problem is one reason why no plan can be made. It unwraps to its Kind.
type Problem struct {
	Kind     error
	Address  string // of the resource: service.web, network.front
	Summary  string // what is wrong, in one line
	Remedy   string // what to do about it
	Position string // file:line:column of the service, where there is one
}

// Error is "position: address: summary; remedy".
func (p Problem) Error() string {
	var b strings.Builder
	for _, part := range []string{p.Position, p.Address} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(p.Summary)
	if p.Remedy != "" {
		b.WriteString("; " + p.Remedy)
	}
	return b.String()
}

func (p Problem) Unwrap() error { return p.Kind }

// Problems are all reasons why no plan can be made, sorted by address. As an error it is never empty.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look into each problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// err is ps as an error: nil where there is none, otherwise sorted and without repetitions.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Summary, b.Summary))
	})
	return slices.Compact(ps)
}
