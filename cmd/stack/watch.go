package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/reconciler/watch"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/load"
)

type watchFlags struct{ noUp, prune, quiet bool }

func (c *cli) watchCommand() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "watch [SERVICE...]",
		Short: "Watch source files and have the containers follow: sync, restart, rebuild",
		Long: `Watch the files that develop.watch names and have the containers follow: sync, restart, rebuild.
The stack file is watched too: what changes in it is planned, shown and applied.`,
		ValidArgsFunction: c.completeServices,
		PreRunE: func(*cobra.Command, []string) error {
			if c.dryRun {
				return errors.New("--dry-run: `stack watch` does what files ask for that will change later; nothing was done")
			}
			return nil
		},
		RunE: c.verb(func(ctx context.Context, services []string) error { return c.watch(ctx, f, services) }),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.noUp, "no-up", false, "Don't build images and start services first")
	flags.BoolVar(&f.prune, "prune", true, "Remove the image that a rebuild has replaced")
	flags.BoolVar(&f.quiet, "quiet", false, "Hide the output of builds")
	return cmd
}

func (c *cli) watch(ctx context.Context, f watchFlags, services []string) error {
	w, err := c.newWatching(ctx, f, upFlags{}, services)
	if err != nil {
		return err
	}
	defer w.close()
	if w.d, err = c.daemon(ctx); err != nil {
		return err
	}
	defer w.d.Close()
	if !f.noUp {
		if err := w.up(ctx); err != nil {
			return err
		}
	}
	return w.run(ctx)
}

// newWatching loads the stack for a watch, and refuses what watch can't do before anything is touched.
func (c *cli) newWatching(ctx context.Context, f watchFlags, up upFlags, services []string) (*watching, error) {
	w := &watching{c: c, flags: f, upFlags: up.again(), services: services, view: newWatchView(c)}
	loaded, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	w.stack = loaded.Stack
	if err := w.check(); err != nil {
		return nil, err
	}
	if w.inputs, err = watch.NewInputs(); err != nil {
		return nil, err
	}
	return w, w.setInputs(loaded)
}

// load reads the stack files themselves: what comes from the cache doesn't say which files it was made from.
func (w *watching) load(ctx context.Context) (*load.Result, error) {
	o, err := w.c.loadOptions(w.services)
	if err != nil {
		return nil, err
	}
	return load.Load(ctx, o)
}

// check refuses rules that can't be followed, at their places in the file.
func (w *watching) check() error {
	watched, err := w.watched(w.stack)
	if err != nil {
		return err
	}
	var findings spec.Diagnostics
	rules := 0
	for _, name := range sortedNames(watched) {
		s := watched[name]
		if s.Develop == nil {
			continue
		}
		rules += len(s.Develop.Watch)
		for i, r := range s.Develop.Watch {
			if r.Action == spec.WatchRebuild && !buildable(s) {
				findings = append(findings, refusal(r.Position, fmt.Sprintf("services.%s.develop.watch[%d].action", name, i),
					"image builds are not supported yet: nothing can rebuild the service",
					"give the service `x-stack: {build: COMMAND}` with a command that builds and loads its image, or use another action"))
			}
		}
	}
	if len(findings) > 0 {
		return findings
	}
	if rules == 0 {
		return watch.ErrNothing
	}
	return nil
}

// watched are the services whose files are watched: those that the user named, with what they depend on, or all.
func (w *watching) watched(stack *spec.Stack) (map[string]*spec.Service, error) {
	selected, err := stack.Select(w.services, true)
	if err != nil {
		return nil, err
	}
	return selected.Services, nil
}
