package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/spec"
)

type upFlags struct {
	convergeFlags
	detach         bool
	wait           bool
	waitTimeout    int
	abortOnExit    bool
	abortOnFailure bool
	exitCodeFrom   string
	attach         []string
	noAttach       []string
	attachDeps     bool
	noColor        bool
	noPrefix       bool
	timestamps     bool
	watch          bool
	menu           bool
	command        string // that the revision is recorded with; empty is up
	plan           string // a file
	confirm        bool
}

func (c *cli) upCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:               "up [SERVICE...]",
		Short:             "Create and start containers",
		ValidArgsFunction: c.completeServices,
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if f.plan != "" {
				if err := checkPlanAlone(cmd, args); err != nil {
					return err
				}
			}
			return f.check(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.detach || f.noStart || c.dryRun {
				return c.verb(func(ctx context.Context, services []string) error { return c.up(ctx, f, services) })(cmd, args)
			}
			return c.up(cmd.Context(), f, args) // attached, it answers to signals by itself
		},
	}
	f.define(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&f.detach, "detach", "d", false, "Leave the containers running in the background")
	flags.BoolVar(&f.noStart, "no-start", false, "Create containers and don't start them")
	flags.BoolVar(&f.wait, "wait", false, "Wait until services are running or healthy. Implies --detach.")
	flags.IntVar(&f.waitTimeout, "wait-timeout", 0, "Seconds to wait at most")
	flags.BoolVar(&f.abortOnExit, "abort-on-container-exit", false, "Stop all containers when one exits. Not with --detach.")
	flags.BoolVar(&f.abortOnFailure, "abort-on-container-failure", false, "Stop all containers when one exits with a failure. Not with --detach.")
	flags.StringVar(&f.exitCodeFrom, "exit-code-from", "", "End with the exit code of this service. Implies --abort-on-container-exit.")
	flags.StringArrayVar(&f.attach, "attach", nil, "Show the output of these services only. Not with --attach-dependencies.")
	flags.StringArrayVar(&f.noAttach, "no-attach", nil, "Don't show the output of these services")
	flags.BoolVar(&f.attachDeps, "attach-dependencies", false, "Show the output of what the services depend on, too")
	flags.BoolVar(&f.noColor, "no-color", false, "Output without colours")
	flags.BoolVar(&f.noPrefix, "no-log-prefix", false, "Output without the containers' names")
	flags.BoolVar(&f.timestamps, "timestamps", false, "Output with times")
	flags.BoolVarP(&f.watch, "watch", "w", false, "Watch source files and have the containers follow, as `stack watch` does")
	flags.StringVar(&f.plan, "plan", "", "Do what `stack plan -o FILE` saved, and refuse when what that was made from has moved since")
	flags.BoolVar(&f.confirm, "confirm", false, "Show the plan and ask first")
	flags.BoolVar(&f.menu, "menu", false, "Shortcuts while attached (not supported)")
	return cmd
}

// check refuses flags that contradict each other, in Compose's words.
func (f *upFlags) check(cmd *cobra.Command) error {
	if f.exitCodeFrom != "" && !f.abortOnFailure {
		f.abortOnExit = true
	}
	if f.wait {
		if f.attachDeps || f.abortOnExit || len(f.attach) > 0 {
			return errors.New("--wait cannot be combined with --abort-on-container-exit, --attach or --attach-dependencies")
		}
		f.detach = true
	}
	switch {
	case f.watch && (f.detach || f.noStart):
		return errors.New("--watch cannot be combined with --detach, --wait or --no-start; use `stack watch`")
	case f.watch && (f.abortOnExit || f.abortOnFailure):
		return errors.New("--watch cannot be combined with --abort-on-container-exit, --abort-on-container-failure or --exit-code-from: it restarts containers by itself")
	case f.watch && f.plan != "":
		return errors.New("--watch cannot be combined with --plan: it follows the stack file")
	case f.menu:
		return errors.New("--menu is not supported; use other commands in another terminal")
	case f.abortOnExit && f.abortOnFailure:
		return errors.New("--abort-on-container-failure cannot be combined with --abort-on-container-exit")
	case f.detach && (f.attachDeps || f.abortOnExit || f.abortOnFailure || len(f.attach) > 0):
		return errors.New("--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or --attach-dependencies")
	case len(f.attach) > 0 && f.attachDeps:
		return errors.New("cannot combine --attach and --attach-dependencies")
	}
	return f.convergeFlags.check(cmd)
}

// request is what the flags ask of the daemon.
func (f *upFlags) request(stack *spec.Stack, services []string) (api.UpRequest, error) {
	options, err := f.options(stack, services)
	if err != nil {
		return api.UpRequest{}, err
	}
	options.WaitHealthy = f.wait
	return api.UpRequest{
		Stack:       stack,
		Options:     options,
		Wait:        f.wait,
		WaitTimeout: time.Duration(f.waitTimeout) * time.Second,
		QuietPull:   f.quietPull,
		Command:     f.command,
	}, nil
}

func (c *cli) up(ctx context.Context, f upFlags, services []string) error {
	request, err := c.upRequest(ctx, f, services)
	if err != nil {
		return err
	}
	stack := request.Stack
	if len(stack.Services) == 0 && !c.allResources {
		return errors.New("no service selected")
	}
	if f.exitCodeFrom != "" && stack.Services[f.exitCodeFrom] == nil {
		return fmt.Errorf("--exit-code-from %s: no such service", f.exitCodeFrom)
	}
	f.noStart = f.noStart || request.Options.NoStart // as a saved plan says
	attach, err := f.attached(stack, request.Options.Services)
	if err != nil {
		return err
	}
	var w *watching
	if f.watch {
		if w, err = c.newWatching(ctx, watchFlags{prune: true}, f, services); err != nil {
			return err
		}
		defer w.close()
	}
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if c.dryRun {
		if request.Options.Build, err = f.building(stack, request.Options.Services); err != nil {
			return err
		}
		_, err := c.showPlan(ctx, d, request)
		return err
	}
	if err := c.prepareImages(ctx, d, f.convergeFlags, stack, request.Options.Services); err != nil {
		return err
	}
	if f.confirm {
		if err := c.confirm(ctx, d, &request, f.yes); err != nil {
			return err
		}
	}
	if !f.detach && !f.noStart {
		return c.attachedUp(ctx, d, request, f, attach, w)
	}
	progress := c.progress("up")
	defer progress.Close()
	_, err = d.Up(ctx, request, progress.Event)
	return err
}

// upRequest is what the flags and the stack file, or a saved plan, ask of the daemon.
func (c *cli) upRequest(ctx context.Context, f upFlags, services []string) (api.UpRequest, error) {
	if f.plan != "" {
		return c.planned(f)
	}
	stack, err := c.load(ctx, services)
	if err != nil {
		return api.UpRequest{}, err
	}
	return f.request(stack, services)
}

// attached are the services whose output an attached up shows, sorted.
func (f *upFlags) attached(stack *spec.Stack, services []string) ([]string, error) {
	selected, err := stack.Select(services, f.attachDeps && !f.noDeps)
	if err != nil {
		return nil, err
	}
	var names []string
	if len(f.attach) > 0 {
		for _, name := range f.attach {
			if stack.Services[name] == nil {
				return nil, fmt.Errorf("cannot attach to services not included in up: %s", name)
			}
		}
		names = slices.Clone(f.attach)
	} else {
		for name := range selected.Services {
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(f.noAttach, name) })
	slices.Sort(names)
	return slices.Compact(names), nil
}
