package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) jobCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "job", Short: "List, run and look at the jobs of the stack"}
	cmd.AddCommand(c.jobListCommand(), c.jobRunCommand(), c.jobLogsCommand(), c.jobHistoryCommand())
	return cmd
}

// onJobs does something with the jobs that the daemon keeps of the stack.
func (c *cli) onJobs(ctx context.Context, do func(d *client.Client, stack string, jobs []api.Job) error) error {
	name, d, err := c.onStack(ctx, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := d.Jobs(ctx, name)
	if err != nil {
		return err
	}
	return do(d, name, jobs)
}

func (c *cli) jobListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the jobs: when they run, and how the last run went",
		Args:  cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			return c.onJobs(ctx, func(_ *client.Client, _ string, jobs []api.Job) error {
				if format != "table" {
					return printFormatted(c.out, format, jobs, nil)
				}
				rows := make([][]string, len(jobs))
				for i, j := range jobs {
					rows[i] = []string{j.Name, schedules(j), nextFire(j, time.Now()), lastRun(j)}
				}
				ui.Table(c.out, []string{"NAME", "SCHEDULE", "NEXT", "LAST RUN"}, rows)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&format, "format", "table", "table, json or a Go template")
	return cmd
}

// schedules are a job's cron expressions as they stand in the file.
func schedules(j api.Job) string {
	if len(j.Schedules) == 0 {
		return "by hand"
	}
	var all []string
	for _, s := range j.Schedules {
		all = append(all, strings.TrimSpace(s.Cron+" "+s.Timezone))
	}
	return strings.Join(all, "; ")
}

func nextFire(j api.Job, now time.Time) string {
	if j.Suspended {
		return "suspended"
	}
	var first time.Time
	for _, s := range j.Schedules {
		if !s.Next.IsZero() && (first.IsZero() || s.Next.Before(first)) {
			first = s.Next
		}
	}
	if first.IsZero() {
		return "-"
	}
	return "in " + units.HumanDuration(first.Sub(now))
}

func lastRun(j api.Job) string {
	if len(j.Runs) == 0 {
		return "never"
	}
	last := j.Runs[len(j.Runs)-1]
	return fmt.Sprintf("#%d %s", last.Number, runOutcome(last))
}

// runOutcome is what became of a run, in words.
func runOutcome(run api.JobRun) string {
	text := run.State
	switch {
	case run.State == "failed" && run.Error != "":
		first, _, _ := strings.Cut(run.Error, "\n")
		text += ": " + ellipsis(first, 80)
	case run.State == "failed":
		text += fmt.Sprintf(" (%d)", run.ExitCode)
	case !run.RetryAt.IsZero():
		text += ", attempt " + strconv.Itoa(run.Attempt+1) + " at " + run.RetryAt.Local().Format(time.TimeOnly)
	}
	return text
}

func (c *cli) jobHistoryCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "history JOB",
		Short: "List the runs of a job that are kept, newest first",
		Args:  cobra.ExactArgs(1),
		RunE: c.verb(func(ctx context.Context, args []string) error {
			return c.onJobs(ctx, func(_ *client.Client, _ string, jobs []api.Job) error {
				j, err := findJob(jobs, args[0])
				if err != nil {
					return err
				}
				slices.Reverse(j.Runs)
				if format != "table" {
					return printFormatted(c.out, format, j.Runs, nil)
				}
				rows := make([][]string, len(j.Runs))
				for i, run := range j.Runs {
					rows[i] = historyOf(run)
				}
				ui.Table(c.out, []string{"RUN", "DUE", "STARTED", "TOOK", "ATTEMPTS", "OUTCOME"}, rows)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&format, "format", "table", "table, json or a Go template")
	return cmd
}

func historyOf(run api.JobRun) []string {
	due, started, took := "by hand", "-", "-"
	if !run.Due.IsZero() {
		due = run.Due.Local().Format(time.DateTime)
	}
	if !run.Started.IsZero() {
		started = run.Started.Local().Format(time.DateTime)
		if run.Over {
			took = run.Finished.Sub(run.Started).Round(time.Millisecond).String()
		}
	}
	text := runOutcome(run)
	if run.Missed > 0 {
		text += fmt.Sprintf("; makes up for %d missed before", run.Missed)
	}
	if run.Skipped > 0 {
		text += fmt.Sprintf("; %d skipped while it ran", run.Skipped)
	}
	return []string{strconv.Itoa(run.Number), due, started, took, strconv.Itoa(run.Attempt), text}
}

func findJob(jobs []api.Job, name string) (api.Job, error) {
	i := slices.IndexFunc(jobs, func(j api.Job) bool { return j.Name == name })
	if i < 0 {
		return api.Job{}, &api.Error{Code: api.NotFound, Message: "no such job: " + name, Remedy: "`stack up` takes the jobs of a stack file over"}
	}
	return jobs[i], nil
}

func (c *cli) jobRunCommand() *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use:   "run JOB",
		Short: "Run a job now, beside its schedules, and print its output",
		Args:  cobra.ExactArgs(1),
		RunE: c.verb(func(ctx context.Context, args []string) error {
			return c.onJobs(ctx, func(d *client.Client, stack string, _ []api.Job) error {
				number, err := d.RunJob(ctx, stack, args[0])
				if err != nil {
					return err
				}
				if detach {
					fmt.Fprintln(c.out, number)
					return nil
				}
				run, err := c.followRun(ctx, d, stack, args[0], number)
				if err != nil || run.State == "succeeded" {
					return err
				}
				if run.Error != "" {
					return &api.Error{Code: api.Failed, Message: run.Error, ExitCode: run.ExitCode}
				}
				return exit(run.ExitCode)
			})
		}),
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "Leave it running and print the run's number")
	return cmd
}

// followRun prints what all attempts of a run write until it is over. The run does not end with this command.
func (c *cli) followRun(ctx context.Context, d *client.Client, stack, job string, number int) (api.JobRun, error) {
	run := api.JobRun{}
	for attempt := 0; ; attempt = run.Attempt {
		var err error
		if run, err = d.WaitJobRun(ctx, stack, job, number, attempt); err != nil {
			return run, err
		}
		if run.Attempt > attempt && run.Container != "" {
			if err := c.runLogs(ctx, d, stack, run.Container, -1, true); err != nil {
				return run, err
			}
		}
		if run.Over {
			return run, nil
		}
	}
}

func (c *cli) runLogs(ctx context.Context, d *client.Client, stack, container string, tail int, follow bool) error {
	printer := ui.NewLogPrinter(c.out, c.err, ui.LogOptions{Stack: stack, NoPrefix: true})
	return d.Logs(ctx, stack, api.LogRequest{Containers: []string{container}, OneOff: true, Tail: tail, Follow: follow}, func(e api.LogEntry) error {
		if e.Event == "" {
			printer.Print(e)
		}
		return nil
	})
}

func (c *cli) jobLogsCommand() *cobra.Command {
	var number int
	var follow bool
	var tail string
	cmd := &cobra.Command{
		Use:   "logs JOB",
		Short: "Print the output of a run of a job: of the last attempt of the last run, unless another is asked for",
		Args:  cobra.ExactArgs(1),
		RunE: c.verb(func(ctx context.Context, args []string) error {
			lines, err := parseTail(tail)
			if err != nil {
				return err
			}
			return c.onJobs(ctx, func(d *client.Client, stack string, jobs []api.Job) error {
				j, err := findJob(jobs, args[0])
				if err != nil {
					return err
				}
				i := len(j.Runs) - 1
				if number > 0 {
					i = slices.IndexFunc(j.Runs, func(r api.JobRun) bool { return r.Number == number })
				}
				switch {
				case i < 0 && number > 0:
					return fmt.Errorf("run %d of %s is not kept", number, j.Name)
				case i < 0:
					return errors.New("the job " + j.Name + " has not run yet")
				case j.Runs[i].Container == "":
					return fmt.Errorf("run %d of %s has no output: %s", j.Runs[i].Number, j.Name, runOutcome(j.Runs[i]))
				}
				return c.runLogs(ctx, d, stack, j.Runs[i].Container, lines, follow)
			})
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&number, "run", 0, "Number of the run (default: the last)")
	flags.BoolVarP(&follow, "follow", "f", false, "Go on with what is printed from now on")
	flags.StringVarP(&tail, "tail", "n", "all", "Lines from the end")
	return cmd
}
