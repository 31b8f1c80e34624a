package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

// notWell is the exit code of `status` when something is not as it is to be, as that of `plan` when there is something to do.
const notWell = 2

func (c *cli) statusCommand() *cobra.Command {
	var format string
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [STACK]",
		Short: "Tell whether the stack is as it is to be, and what the daemon does about it",
		Long: "Tell of each replica, network and volume how it is, since when and why, what has drifted, and what the daemon will do\n" +
			"about it and when. The exit code is 0 when all is well, 2 when something is not, 1 after an error.",
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format %q: use table or json", format)
			}
			return nil
		},
		RunE: c.verb(func(ctx context.Context, args []string) error {
			name, err := c.stackNamed(ctx, args)
			if err != nil {
				return err
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			if watch {
				return d.WatchStatus(ctx, name, func(s api.StackStatus) error { return c.printStatus(s, format) })
			}
			status, err := d.Status(ctx, name)
			if err == nil {
				err = c.printStatus(status, format)
			}
			if err == nil && !status.OK {
				return exit(notWell)
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "Print it again whenever it changes")
	return cmd
}

// stackNamed is the stack that an argument names, or the one of the working folder.
func (c *cli) stackNamed(ctx context.Context, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], checkName(args[0])
	}
	name, _, err := c.named(ctx, nil)
	return name, err
}

func (c *cli) printStatus(s api.StackStatus, format string) error {
	if format == "json" {
		return json.NewEncoder(c.out).Encode(s)
	}
	now := time.Now()
	rows := make([][]string, len(s.Addresses))
	for i, a := range s.Addresses {
		since := ""
		if !a.Since.IsZero() {
			since = units.HumanDuration(now.Sub(a.Since)) + " ago"
		}
		next := a.Next
		if wait := a.NextTry.Sub(now); next != "" && wait > 0 {
			next += fmt.Sprintf(" (in %s, failed %d times)", wait.Round(100*time.Millisecond), a.Failures)
		}
		rows[i] = []string{a.Address, a.State, a.Condition, a.Reason, since, a.Drift, next}
	}
	if len(rows) > 0 {
		ui.Table(c.out, []string{"ADDRESS", "STATE", "CONDITION", "REASON", "SINCE", "DRIFT", "NEXT"}, rows)
	}
	_, err := fmt.Fprintln(c.out, verdict(s, now))
	return err
}

// verdict says in one line how the stack is.
func verdict(s api.StackStatus, now time.Time) string {
	text := "Stack " + s.Stack + ": "
	switch {
	case s.Error != "":
		text += s.Error
		if wait := s.NextTry.Sub(now); wait > 0 {
			text += fmt.Sprintf(" (the daemon looks again in %s)", wait.Round(100*time.Millisecond))
		}
		return text
	case s.OK && len(s.Addresses) == 0:
		return text + "nothing is asked of it."
	case s.OK:
		text += "all is well."
	default:
		text += "something is not as it is to be."
	}
	switch s.Reconcile {
	case "suspended":
		text += " The daemon only reports drift until `stack resume`."
	case "observe":
		text += " The daemon only reports drift, as the stack file says."
	}
	return text
}
