package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) logsCommand() *cobra.Command {
	var follow, noColor, noPrefix, timestamps bool
	var tail, since, until string
	var index int
	cmd := &cobra.Command{
		Use:               "logs [SERVICE...]",
		Short:             "Print the output of containers",
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, services []string) error {
			request := api.LogRequest{Services: services, Follow: follow}
			now := time.Now()
			var err error
			if request.Tail, err = parseTail(tail); err != nil {
				return err
			}
			if request.Since, err = parseTime(since, now); err != nil {
				return fmt.Errorf("--since: %w", err)
			}
			if request.Until, err = parseTime(until, now); err != nil {
				return fmt.Errorf("--until: %w", err)
			}
			return c.logs(ctx, request, index, ui.LogOptions{
				Color: !noColor && c.colorOn(c.out), NoPrefix: noPrefix, Timestamps: timestamps,
			})
		}),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "Go on with what is printed from now on")
	flags.StringVarP(&tail, "tail", "n", "all", "Lines from the end of each container's log")
	flags.StringVar(&since, "since", "", "Only what was printed since a time (2026-01-02T13:23:37Z) or for a while (42m)")
	flags.StringVar(&until, "until", "", "Only what was printed before a time or a while ago")
	flags.BoolVarP(&timestamps, "timestamps", "t", false, "With times")
	flags.BoolVar(&noColor, "no-color", false, "Without colours")
	flags.BoolVar(&noPrefix, "no-log-prefix", false, "Without the containers' names")
	flags.IntVar(&index, "index", 0, "Of one replica only: its number")
	return cmd
}

func (c *cli) logs(ctx context.Context, request api.LogRequest, index int, o ui.LogOptions) error {
	name, stack, err := c.named(ctx, request.Services)
	if err != nil {
		return err
	}
	for _, service := range request.Services {
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
	o.Stack = name
	request.Index = index
	found := index == 0
	printer := ui.NewLogPrinter(c.out, c.err, o)
	for _, container := range containers {
		wanted := len(request.Services) == 0 || slices.Contains(request.Services, container.Service)
		if !wanted || container.OneOff || index > 0 && container.Replica != index {
			continue
		}
		printer.Expect(container.Name)
		found = true
	}
	if !found {
		return fmt.Errorf("no container of %s has the number %d", strings.Join(request.Services, ", "), index)
	}
	return c.resumed(ctx, d, name, request, printer.Print)
}

// comeBack is how long a follower waits for another daemon when the one that it talks to has ended.
const comeBack = 30 * time.Second

// resumed hands on the entries of a request. Followers outlive the daemon: the next one is asked for what came after the last
// entry of each container.
func (c *cli) resumed(ctx context.Context, d *client.Client, name string, request api.LogRequest, print func(api.LogEntry)) error {
	began, after := time.Now(), map[string]time.Time{}
	for {
		err := d.Logs(ctx, name, request, func(e api.LogEntry) error {
			after[e.ID] = e.Time
			print(e)
			return nil
		})
		if !request.Follow || !client.IsLost(err) || ctx.Err() != nil {
			return err
		}
		if request.After = after; request.Tail >= 0 { // of containers not heard of, what was not there at first
			request.Tail, request.Since = -1, began
		}
		next, dialErr := c.nextDaemon(ctx, comeBack)
		if dialErr != nil {
			return err
		}
		defer next.Close()
		d = next
	}
}

// parseTail reads --tail: a number, or all.
func parseTail(text string) (int, error) {
	if text == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("--tail %q: write a number of lines, or all", text)
	}
	return max(n, -1), nil
}

// The forms of times that Docker takes; those without a zone are local.
var timeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"}

// parseTime reads a time, a duration before now, or seconds since 1970. Empty is the zero time.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	if whole, fraction, _ := strings.Cut(text, "."); whole != "" {
		seconds, err := strconv.ParseInt(whole, 10, 64)
		nanos := int64(0)
		if fraction != "" && err == nil {
			nanos, err = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		}
		if err == nil {
			return time.Unix(seconds, nanos), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time (2026-01-02T13:23:37Z) nor a duration (42m)", text)
}
