package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/planner"
)

// lsRow is one stack, as Compose's JSON has it.
type lsRow struct {
	Name        string
	Status      string
	ConfigFiles string
}

func (c *cli) lsCommand() *cobra.Command {
	var all, quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List stacks",
		Args:  cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format %q: use table or json", format)
			}
			names, err := nameFilters(filters)
			if err != nil {
				return err
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			stacks, err := d.Stacks(ctx)
			if err != nil {
				return err
			}
			return c.printStacks(stackRows(stacks, all, names), format, quiet)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&all, "all", "a", false, "Stacks of which nothing runs, too")
	flags.BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	flags.StringVar(&format, "format", "table", "table or json")
	flags.StringArrayVar(&filters, "filter", nil, "name=PATTERN")
	return cmd
}

// nameFilters reads --filter name=PATTERN.
func nameFilters(filters []string) ([]string, error) {
	var patterns []string
	for _, filter := range filters {
		key, pattern, ok := strings.Cut(filter, "=")
		if !ok || key != "name" {
			return nil, fmt.Errorf("--filter %q: only name=PATTERN is known", filter)
		}
		if _, err := filepath.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("--filter %q: %w", filter, err)
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

func stackRows(stacks []api.StackSummary, all bool, patterns []string) []lsRow {
	rows := []lsRow{}
	for _, s := range stacks {
		matches := len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, _ := filepath.Match(pattern, s.Name) // the pattern was checked
			return ok || strings.Contains(s.Name, pattern)
		})
		alive := s.States[planner.Running]+s.States[planner.Paused]+s.States[planner.Restarting] > 0
		if matches && (all || alive) {
			rows = append(rows, lsRow{Name: s.Name, Status: combined(s.States), ConfigFiles: strings.Join(s.Files, ",")})
		}
	}
	slices.SortFunc(rows, func(a, b lsRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// combined is "exited(1), running(2)".
func combined(states map[string]int) string {
	var texts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		if states[state] > 0 {
			texts = append(texts, fmt.Sprintf("%s(%d)", state, states[state]))
		}
	}
	return strings.Join(texts, ", ")
}

func (c *cli) printStacks(rows []lsRow, format string, quiet bool) error {
	switch {
	case quiet:
		for _, r := range rows {
			fmt.Fprintln(c.out, r.Name)
		}
		return nil
	case format == "json":
		return json.NewEncoder(c.out).Encode(rows)
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = []string{r.Name, r.Status, r.ConfigFiles}
	}
	ui.Table(c.out, []string{"NAME", "STATUS", "CONFIG FILES"}, cells)
	return nil
}
