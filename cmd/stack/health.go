package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/planner"
)

func (c *cli) healthCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "health [SERVICE...]",
		Short: "Tell what the health checks of containers said",
		Long: `Tell what the health checks of containers said.

Of all services, a line for each container; of named services the last results of each check as well, those of the run before
included. It exits with 1 when one of them is unhealthy.`,
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, services []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format %q: use table or json", format)
			}
			name, d, err := c.onStack(ctx, services)
			if err != nil {
				return err
			}
			defer d.Close()
			all, err := d.Health(ctx, name, services)
			if err != nil {
				return err
			}
			if format == "json" {
				err = json.NewEncoder(c.out).Encode(all)
			} else {
				c.printHealth(all, len(services) > 0, time.Now())
			}
			for _, h := range all {
				if err == nil && h.Status == planner.Unhealthy {
					return exit(1)
				}
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func (c *cli) printHealth(all []api.ContainerHealth, log bool, now time.Time) {
	rows := make([][]string, len(all))
	for i, h := range all {
		checked, said := "", ""
		if n := len(h.Log); n > 0 {
			checked = units.HumanDuration(now.Sub(h.Log[n-1].End)) + " ago"
			said = ellipsis(firstLine(h.Log[n-1].Output), 60)
		}
		restarts := strconv.Itoa(h.Restarts)
		if now.Before(h.NextTry) && h.Status == planner.Unhealthy {
			restarts += ", next in " + h.NextTry.Sub(now).Round(time.Second).String()
		}
		rows[i] = []string{h.Name, h.Service, orDefault(h.Status, "-"), strconv.Itoa(h.FailingStreak), restarts, checked, said}
	}
	ui.Table(c.out, []string{"NAME", "SERVICE", "HEALTH", "FAILURES", "RESTARTS", "CHECKED", "SAID"}, rows)
	if !log {
		return
	}
	for _, h := range all {
		fmt.Fprintf(c.out, "\n%s\n", h.Name)
		for _, p := range h.Log {
			fmt.Fprintf(c.out, "  %s  exit %d  %s\n", p.Start.Local().Format(time.DateTime), p.ExitCode, p.End.Sub(p.Start).Round(time.Millisecond))
			for line := range strings.Lines(p.Output) {
				fmt.Fprintf(c.out, "    %s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
