package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) networkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "network", Short: "Networks on this host"}
	cmd.AddCommand(c.networkLsCommand(), inspectCommand(c, "network", c.networks, func(n api.Network) string { return n.Name }), c.removeCommand("network", "Remove networks", (*client.Client).RemoveNetwork), c.networkPruneCommand())
	return cmd
}

// networks asks the daemon, and puts them in the order of their names.
func (c *cli) networks(ctx context.Context) ([]api.Network, error) {
	d, err := c.daemon(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	networks, err := d.Networks(ctx)
	slices.SortFunc(networks, func(a, b api.Network) int { return strings.Compare(a.Name, b.Name) })
	return networks, err
}

func (c *cli) networkLsCommand() *cobra.Command {
	var quiet, noTrunc bool
	var format string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List networks",
		Args:    cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			networks, err := c.networks(ctx)
			if err != nil {
				return err
			}
			return c.printNetworks(networks, format, quiet, noTrunc)
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Print ids in full")
	cmd.Flags().StringVar(&format, "format", "table", "table, json, or a Go template")
	return cmd
}

// networkRow is one network, as `docker network ls --format json` has it.
type networkRow struct {
	CreatedAt string
	Driver    string
	ID        string
	IPv6      string
	Internal  string
	Labels    string
	Name      string
	Scope     string
	Stack     string
	Subnets   string
}

func (c *cli) printNetworks(networks []api.Network, format string, quiet, full bool) error {
	rows := make([]networkRow, len(networks))
	cells := make([][]string, len(networks))
	for i, n := range networks {
		id := n.ID
		if !full {
			id = truncateID(id)
		}
		rows[i] = networkRow{
			CreatedAt: n.Created.Local().Format("2006-01-02 15:04:05.999999999 -0700 MST"),
			Driver:    n.Driver, ID: id, IPv6: strconv.FormatBool(n.IPv6), Internal: strconv.FormatBool(n.Internal),
			Labels: labels(n.Labels), Name: n.Name, Scope: "local", Stack: n.Stack, Subnets: strings.Join(n.Subnets, ","),
		}
		cells[i] = []string{id, n.Name, n.Driver, strings.Join(n.Subnets, ", "), n.Stack}
	}
	switch {
	case quiet:
		for _, r := range rows {
			fmt.Fprintln(c.out, r.ID)
		}
		return nil
	case format != "" && format != "table":
		return printFormatted(c.out, format, rows, map[string]string{"ID": "NETWORK ID", "CreatedAt": "CREATED AT"})
	}
	ui.Table(c.out, []string{"NETWORK ID", "NAME", "DRIVER", "SUBNETS", "STACK"}, cells)
	return nil
}

func (c *cli) networkPruneCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove networks that nothing uses",
		Args:  cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			if !force && !c.confirmed("This removes all networks that no container uses.") {
				return nil
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			removed, err := d.PruneNetworks(ctx)
			c.printPruned("Deleted Networks:", removed)
			return err
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Don't ask")
	return cmd
}
