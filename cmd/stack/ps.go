package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

type psFlags struct {
	all      bool
	format   string
	services bool
	status   []string
	filter   []string
	quiet    bool
	noTrunc  bool
	orphans  bool
}

func (c *cli) psCommand() *cobra.Command {
	var f psFlags
	cmd := &cobra.Command{
		Use:               "ps [SERVICE...]",
		Short:             "List containers",
		ValidArgsFunction: c.completeServices,
		PreRunE:           func(*cobra.Command, []string) error { return f.check() },
		RunE:              c.verb(func(ctx context.Context, services []string) error { return c.ps(ctx, f, services) }),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.all, "all", "a", false, "Stopped containers, too, and those made by `run`")
	flags.StringVar(&f.format, "format", "table", "table, json, or a Go template such as \"table {{.Name}}\\t{{.Status}}\"")
	flags.BoolVar(&f.services, "services", false, "Print services instead")
	flags.StringArrayVar(&f.status, "status", nil, "Only containers in this state: "+strings.Join(states, ", "))
	flags.StringArrayVar(&f.filter, "filter", nil, "status=STATE, the same as --status")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Print ids only")
	flags.BoolVar(&f.noTrunc, "no-trunc", false, "Print ids and commands in full")
	flags.BoolVar(&f.orphans, "orphans", true, "Containers of services that the stack file has no more, too")
	return cmd
}

// states are the values of --status. Nothing is ever removing or dead here for longer than a moment.
var states = []string{"paused", "restarting", "removing", "running", "dead", "created", "exited"}

func (f *psFlags) check() error {
	for _, filter := range f.filter {
		key, value, ok := strings.Cut(filter, "=")
		if !ok || key != "status" && key != "source" {
			return fmt.Errorf("--filter %q: only status=STATE is known", filter)
		}
		if key == "source" {
			return errors.New("--filter source is deprecated in Compose and not supported")
		}
		f.status = append(f.status, value)
	}
	for _, status := range f.status {
		if !slices.Contains(states, status) {
			return fmt.Errorf("--status %q: use one of %s", status, strings.Join(states, ", "))
		}
	}
	return nil
}

func (c *cli) ps(ctx context.Context, f psFlags, services []string) error {
	name, stack, err := c.named(ctx, services)
	if err != nil {
		return err
	}
	for _, service := range services {
		if stack != nil && stack.Services[service] == nil {
			return fmt.Errorf("no such service: %s", service)
		}
	}
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	containers, err := d.Containers(ctx, name)
	if err != nil {
		return err
	}
	return c.printContainers(f, f.choose(containers, services, stack), time.Now())
}

// choose picks the containers that the flags ask for, by name.
func (f *psFlags) choose(containers []api.Container, services []string, stack *spec.Stack) []api.Container {
	var chosen []api.Container
	for _, container := range containers {
		alive := container.State == planner.Running || container.State == planner.Paused || container.State == planner.Restarting
		orphan := stack != nil && stack.Services[container.Service] == nil
		switch {
		case container.Hook != "" && !alive, // what it did is done
			len(services) > 0 && !slices.Contains(services, container.Service),
			len(f.status) > 0 && !slices.Contains(f.status, shownState(container)),
			len(f.status) == 0 && !f.all && !alive,
			orphan && !f.orphans && !f.all:
		default:
			chosen = append(chosen, container)
		}
	}
	slices.SortFunc(chosen, func(a, b api.Container) int { return strings.Compare(a.Name, b.Name) })
	return chosen
}

// shownState is a container's state in Docker's words.
func shownState(c api.Container) string {
	if c.State == planner.Broken {
		return "dead"
	}
	return c.State
}

func (c *cli) printContainers(f psFlags, containers []api.Container, now time.Time) error {
	if f.quiet {
		for _, container := range containers {
			fmt.Fprintln(c.out, container.ID)
		}
		return nil
	}
	if f.services {
		var names []string
		for _, container := range containers {
			if !slices.Contains(names, container.Service) {
				names = append(names, container.Service)
				fmt.Fprintln(c.out, container.Service)
			}
		}
		return nil
	}
	rows := make([]psRow, len(containers))
	for i, container := range containers {
		rows[i] = newPsRow(container, now, f.noTrunc)
	}
	if f.format == "" || f.format == "table" {
		return c.psTable(rows)
	}
	return printFormatted(c.out, f.format, rows, psHeadings)
}

func (c *cli) psTable(rows []psRow) error {
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = []string{r.Name, r.Image, r.Command, r.Service, r.RunningFor, r.Status, r.Ports}
	}
	ui.Table(c.out, []string{"NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"}, cells)
	return nil
}

// psHeadings are the headings of a `table` template's columns.
var psHeadings = map[string]string{
	"ID": "CONTAINER ID", "Name": "NAME", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "Service": "SERVICE", "Project": "PROJECT",
	"CreatedAt": "CREATED AT", "RunningFor": "CREATED", "Status": "STATUS", "State": "STATE", "Health": "HEALTH", "ExitCode": "EXIT CODE",
	"Ports": "PORTS", "Publishers": "PUBLISHERS", "Labels": "LABELS", "LocalVolumes": "LOCAL VOLUMES", "Mounts": "MOUNTS", "Networks": "NETWORKS", "Size": "SIZE",
}
