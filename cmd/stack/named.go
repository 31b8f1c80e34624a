package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

// pickNamed finds things by name, in the order of the names. All missing ones are reported at once.
func pickNamed[T any](all []T, names []string, noun string, nameOf func(T) string) ([]T, error) {
	var found []T
	var missing []string
	for _, name := range names {
		i := slices.IndexFunc(all, func(t T) bool { return nameOf(t) == name })
		if i < 0 {
			missing = append(missing, name)
			continue
		}
		found = append(found, all[i])
	}
	if len(missing) > 0 {
		return nil, &api.Error{Code: api.NotFound, Message: fmt.Sprintf("no such %s: %s", noun, strings.Join(missing, ", "))}
	}
	return found, nil
}

// each does the work for every name, prints what goes wrong, and ends with 1 when anything did.
func (c *cli) each(names []string, work func(name string) error) error {
	failed := 0
	for _, name := range names {
		if err := work(name); err != nil {
			ui.PrintError(c.err, err, c.colorOn(c.err))
			failed = 1
		}
	}
	return exit(failed)
}

func isNotFound(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.NotFound
}

func (c *cli) printPruned(heading string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintln(c.out, heading)
	for _, name := range names {
		fmt.Fprintln(c.out, name)
	}
}
