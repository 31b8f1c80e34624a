package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "Volumes on this host"}
	cmd.AddCommand(c.volumeLsCommand(), inspectCommand(c, "volume", c.volumes, func(v api.Volume) string { return v.Name }), c.removeCommand("volume", "Delete volumes and their data", (*client.Client).RemoveVolume), c.volumePruneCommand())
	return cmd
}

// volumes asks the daemon, and puts them in the order of their names.
func (c *cli) volumes(ctx context.Context) ([]api.Volume, error) {
	d, err := c.daemon(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	volumes, err := d.Volumes(ctx)
	slices.SortFunc(volumes, func(a, b api.Volume) int { return strings.Compare(a.Name, b.Name) })
	return volumes, err
}

func (c *cli) volumeLsCommand() *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Args:    cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			volumes, err := c.volumes(ctx)
			if err != nil {
				return err
			}
			return c.printVolumes(volumes, format, quiet)
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	cmd.Flags().StringVar(&format, "format", "table", "table, json, or a Go template")
	return cmd
}

// volumeRow is one volume, as `docker volume ls --format json` has it.
type volumeRow struct {
	Driver     string
	Labels     string
	Mountpoint string
	Name       string
	Scope      string
	Stack      string
}

func (c *cli) printVolumes(volumes []api.Volume, format string, quiet bool) error {
	rows := make([]volumeRow, len(volumes))
	cells := make([][]string, len(volumes))
	for i, v := range volumes {
		rows[i] = volumeRow{Driver: v.Driver, Labels: labels(v.Labels), Mountpoint: v.Mountpoint, Name: v.Name, Scope: "local", Stack: v.Stack}
		cells[i] = []string{v.Driver, v.Name, v.Stack}
	}
	switch {
	case quiet:
		for _, v := range volumes {
			fmt.Fprintln(c.out, v.Name)
		}
		return nil
	case format != "" && format != "table":
		return printFormatted(c.out, format, rows, map[string]string{"Name": "VOLUME NAME"})
	}
	ui.Table(c.out, []string{"DRIVER", "VOLUME NAME", "STACK"}, cells)
	return nil
}

func (c *cli) volumePruneCommand() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete volumes that nothing uses",
		Args:  cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			what := "This deletes all anonymous volumes that no container uses, with their data."
			if all {
				what = "This deletes all volumes that no container uses, named ones included, with their data."
			}
			if !force && !c.confirmed(what) {
				return nil
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			removed, err := d.PruneVolumes(ctx, all)
			c.printPruned("Deleted Volumes:", removed)
			return err
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Named volumes, too")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Don't ask")
	return cmd
}
