package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec/load"
)

// historyRow is one revision, for --format.
type historyRow struct {
	Revision  int
	CreatedAt string
	Age       string
	By        string
	Command   string
	Ref       string
	Outcome   string
	Error     string
	Digest    string
	Images    map[string]string // by service, with the digests
}

var historyHeadings = map[string]string{"CreatedAt": "CREATED AT"}

func (c *cli) historyCommand() *cobra.Command {
	var format string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the revisions of the stack: what was applied, when, by whom, and what became of it",
		Args:  cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			revisions, err := c.revisions(ctx)
			if err != nil {
				return err
			}
			return c.printHistory(revisions, format, quiet)
		}),
	}
	cmd.Flags().StringVar(&format, "format", "table", "table, json or a Go template")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print numbers only")
	cmd.AddCommand(c.historyShowCommand())
	return cmd
}

func (c *cli) revisions(ctx context.Context) ([]api.Revision, error) {
	name, d, err := c.onStack(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Revisions(ctx, name)
}

func (c *cli) printHistory(revisions []api.Revision, format string, quiet bool) error {
	now := time.Now()
	rows := make([]historyRow, len(revisions))
	for i, r := range revisions {
		rows[i] = historyRow{
			Revision: r.Number, CreatedAt: r.Time.Local().Format("2006-01-02 15:04:05 -0700 MST"), Age: units.HumanDuration(now.Sub(r.Time)) + " ago",
			By: r.By, Command: r.Command, Ref: r.Ref, Outcome: r.Outcome, Error: r.Error, Digest: r.Digest, Images: map[string]string{},
		}
		for service, image := range r.Images {
			rows[i].Images[service] = pinnedImage(image)
		}
	}
	switch {
	case quiet:
		for _, r := range rows {
			fmt.Fprintln(c.out, r.Revision)
		}
		return nil
	case format != "table":
		return printFormatted(c.out, format, rows, historyHeadings)
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		command := r.Command
		if r.Ref != "" {
			command += " " + r.Ref
		}
		outcome := r.Outcome
		if r.Error != "" {
			first, _, _ := strings.Cut(r.Error, "\n")
			outcome += ": " + ellipsis(first, 80)
		}
		cells[i] = []string{strconv.Itoa(r.Revision), r.Age, r.By, ellipsis(command, 40), outcome}
	}
	ui.Table(c.out, []string{"REVISION", "APPLIED", "BY", "COMMAND", "OUTCOME"}, cells)
	return nil
}

// pinnedImage is an image with the digest that it had.
func pinnedImage(image api.RevisionImage) string {
	digest := image.Digest
	if digest == "" {
		digest = image.ID
	}
	if strings.Contains(image.Image, "@") || digest == "" || strings.HasPrefix(image.Image, "sha256:") {
		return image.Image
	}
	return image.Image + "@" + digest
}

func (c *cli) historyShowCommand() *cobra.Command {
	var format string
	var showSecrets bool
	cmd := &cobra.Command{
		Use:   "show [N]",
		Short: "Print a revision as a stack file, and what changed in it",
		Long: `Print revision N, or the newest, as the stack file that it comes to, with the images' digests, and above it as comments what
changed against the revision before it. What looks like a secret is left out unless --show-secrets asks for it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.verb(func(ctx context.Context, args []string) error {
			if format != "yaml" && format != "json" {
				return fmt.Errorf("--format %q: use yaml or json", format)
			}
			number, err := revisionArg(args)
			if err != nil {
				return err
			}
			name, d, err := c.onStack(ctx, nil)
			if err != nil {
				return err
			}
			defer d.Close()
			detail, err := d.Revision(ctx, name, number)
			if err != nil {
				return err
			}
			if !showSecrets {
				detail.Stack = detail.Stack.Redact()
				redactDifferences(detail.Differences)
			}
			if format == "json" {
				return c.printIndented(detail)
			}
			return c.printRevision(name, detail)
		}),
	}
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml or json")
	cmd.Flags().BoolVar(&showSecrets, "show-secrets", false, "Show values that look like secrets")
	return cmd
}

// printRevision prints a stack file whose head says where it comes from.
func (c *cli) printRevision(stack string, r api.RevisionDetail) error {
	var head strings.Builder
	fmt.Fprintf(&head, "Revision %d of stack %s, %s", r.Number, stack, r.Time.Local().Format(time.RFC1123))
	if r.By != "" {
		head.WriteString(" by " + r.By)
	}
	if r.Command != "" {
		head.WriteString(": " + strings.TrimSpace(r.Command+" "+r.Ref))
	}
	head.WriteString("\nOutcome: " + r.Outcome)
	if r.Error != "" {
		head.WriteString(": " + r.Error)
	}
	head.WriteByte('\n')
	if r.Before > 0 {
		fmt.Fprintf(&head, "\nChanged since revision %d:\n%s", r.Before, planner.RenderDifferences(r.Differences, planner.RenderOptions{Diff: true}))
	}
	for service, image := range r.Images {
		if svc := r.Stack.Services[service]; svc != nil {
			svc.Image = pinnedImage(image)
		}
	}
	text, err := load.Write(r.Stack)
	if err != nil {
		return err
	}
	for line := range strings.Lines(head.String()) {
		fmt.Fprintln(c.out, strings.TrimRight("# "+strings.TrimSuffix(line, "\n"), " "))
	}
	_, err = fmt.Fprintf(c.out, "\n%s", text)
	return err
}
