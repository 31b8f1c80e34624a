package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// notReady is the exit code of a status that is not all well.
const notReady = 2

func formatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVar(format, "format", "table", "table or json")
}

func checkFormat(format string) error {
	if format != "table" && format != "json" {
		return fmt.Errorf("--format %q: use table or json", format)
	}
	return nil
}

func (c *cli) gitopsLsCommand() *cobra.Command {
	var format string
	var quiet bool
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the repositories that are followed", Args: cobra.NoArgs,
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			list, err := d.Repositories(ctx)
			if err != nil {
				return err
			}
			if list.Broken != "" {
				ui.PrintError(c.err, errors.New("the declared file is broken, its last good content holds:\n"+list.Broken), c.colorOn(c.err))
			}
			switch {
			case quiet:
				for _, r := range list.Repositories {
					fmt.Fprintln(c.out, r.Name)
				}
				return nil
			case format == "json":
				return printJSON(c.out, list.Repositories)
			}
			printRepositories(c.out, list.Repositories)
			return nil
		}),
	}
	formatFlag(cmd, &format)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	return cmd
}

func printRepositories(w io.Writer, list []status.Repository) {
	var rows [][]string
	for _, r := range list {
		ready, reason := readiness(r)
		rows = append(rows, []string{r.Name, r.Definition.Ref.String(), r.Applied.Short(), ready, reason, fmt.Sprint(len(r.Stacks)), r.Definition.URL})
	}
	ui.Table(w, []string{"NAME", "REF", "APPLIED", "READY", "REASON", "STACKS", "URL"}, rows)
}

// readiness is the Ready condition, or that nobody looks.
func readiness(r status.Repository) (value, reason string) {
	if r.Suspended || r.Definition.Suspend {
		return r.Condition(status.Ready).Status, status.Suspended
	}
	c := r.Condition(status.Ready)
	return c.Status, c.Reason
}

func (c *cli) gitopsStatusCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "Print conditions, revisions and stacks",
		Long:  "Print conditions, revisions and stacks.\nThe exit code is 0 when every repository is ready, 2 when one is not, 1 after an error.",
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, names []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			all, err := repositories(ctx, d, names)
			if err != nil {
				return err
			}
			code := 0
			for i, r := range all {
				if r.Condition(status.Ready).Status != status.True {
					code = notReady
				}
				if format == "json" {
					if err := printJSON(c.out, r); err != nil {
						return err
					}
					continue
				}
				if i > 0 {
					fmt.Fprintln(c.out)
				}
				printRepository(c.out, r, time.Now())
			}
			return exit(code)
		}),
	}
	formatFlag(cmd, &format)
	return cmd
}

// repositories asks for those named, or for all.
func repositories(ctx context.Context, d *client.Client, names []string) ([]status.Repository, error) {
	if len(names) == 0 {
		list, err := d.Repositories(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range list.Repositories {
			names = append(names, r.Name)
		}
	}
	var all []status.Repository
	for _, name := range names {
		r, err := d.Repository(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func printRepository(w io.Writer, r status.Repository, now time.Time) {
	fmt.Fprintf(w, "%s  %s  %s\n", r.Name, r.Definition.URL, r.Definition.Ref)
	if r.Declared != "" {
		fmt.Fprintf(w, "  declared in %s\n", r.Declared)
	}
	for _, line := range []struct {
		what string
		rev  string
		text string
	}{{"applied  ", r.Applied.Short(), r.Applied.Subject}, {"attempted", r.Attempted.Short(), r.Attempted.Subject}} {
		if line.rev != "" {
			fmt.Fprintf(w, "  %s %s %s\n", line.what, line.rev, line.text)
		}
	}
	if r.Suspended || r.Definition.Suspend {
		fmt.Fprintln(w, "  suspended")
	} else if !r.NextRun.IsZero() {
		fmt.Fprintf(w, "  next look in %s\n", units.HumanDuration(max(r.NextRun.Sub(now), 0)))
	}
	var rows [][]string
	for _, c := range r.Conditions {
		rows = append(rows, []string{"  " + c.Type, c.Status, c.Reason, units.HumanDuration(now.Sub(c.Since)), oneLine(c.Message)})
	}
	ui.Table(w, []string{"  CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"}, rows)
	rows = nil
	for _, s := range r.Stacks {
		rows = append(rows, []string{"  " + s.Name, s.Path, s.Outcome, short(s.Revision), units.HumanDuration(now.Sub(s.Time)) + " ago", oneLine(s.Error)})
	}
	if rows != nil {
		ui.Table(w, []string{"  STACK", "PATH", "OUTCOME", "REVISION", "CHANGED", "ERROR"}, rows)
	}
}

func short(id string) string { return id[:min(len(id), 12)] }

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

func (c *cli) gitopsHistoryCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "history NAME", Short: "List the revisions that were attempted: who made them and what they changed", Args: cobra.ExactArgs(1),
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, names []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			r, err := d.Repository(ctx, names[0])
			if err != nil {
				return err
			}
			if format == "json" {
				return printLines(c.out, r.History)
			}
			var rows [][]string
			for _, e := range r.History {
				rows = append(rows, []string{e.Time.Format(time.RFC3339), e.Revision.Short(), e.Revision.Author, e.Revision.Subject, e.By,
					e.Outcome, strings.Join(e.Stacks, ","), e.Took.Round(time.Millisecond).String()})
			}
			ui.Table(c.out, []string{"TIME", "REVISION", "AUTHOR", "SUBJECT", "BY", "OUTCOME", "STACKS", "TOOK"}, rows)
			return nil
		}),
	}
	formatFlag(cmd, &format)
	return cmd
}

func (c *cli) gitopsEventsCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "events [NAME...]", Short: "List what happened, the latest last",
		Long: "List what happened, the latest last: changes of conditions and of stacks. The last 200 of each repository are kept.",
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, names []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			all, err := repositories(ctx, d, names)
			if err != nil {
				return err
			}
			var events []status.Event
			for _, r := range all {
				events = append(events, r.Events...)
			}
			slices.SortStableFunc(events, func(a, b status.Event) int { return a.Time.Compare(b.Time) })
			if format == "json" {
				return printLines(c.out, events)
			}
			var rows [][]string
			for _, e := range events {
				rows = append(rows, []string{e.Time.Format(time.RFC3339), e.Repository, e.Type, e.Reason, short(e.Revision), oneLine(e.Message)})
			}
			ui.Table(c.out, []string{"TIME", "REPOSITORY", "ABOUT", "REASON", "REVISION", "MESSAGE"}, rows)
			return nil
		}),
	}
	formatFlag(cmd, &format)
	return cmd
}

// printLines prints values as JSON, one a line.
func printLines[T any](w io.Writer, values []T) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}
