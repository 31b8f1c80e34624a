package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/e2e/load/report"
	"github.com/stack-run/stack/e2e/rollouts"
)

// kinds of clients.
var kinds = []struct {
	name string
	args []string
}{{"kept connections", []string{"-keepalive"}}, {"a connection each", nil}}

// under is one row: a service that is replaced, and where its clients are.
type under struct {
	name string
	file func(version int) string
	// clients is what the load generator is run by, and how to.
	clients []string
	url     string
}

// measureRollouts replaces services several times under both kinds of load at once, and prints how many requests there were, how
// many failed, and the longest time without an answer: the least and the most of the runs.
func measureRollouts(ctx context.Context, s *stack, images *images, runs int, w io.Writer) (err error) {
	programs, err := rollouts.Programs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, images); err != nil {
		return err
	}
	load := filepath.Join(programs, "load")
	for version := 1; version <= 2; version++ {
		if _, err := s.run(s.program, "image", "load", "--name", rollouts.Image(version), "-i", filepath.Join(programs, fmt.Sprintf("%d.tar", version))); err != nil {
			return err
		}
	}
	neighbour, err := host.Beside(s.machine.Start)
	if err != nil {
		return err
	}
	if _, err := s.run("bash", "-euc", host.Cable(neighbour)+"\nuntil [ $(cat /sys/class/net/cable/operstate) = up ]; do sleep 0.01; done"); err != nil {
		return err
	}
	published := func(replicas int, config string) func(int) string {
		return func(version int) string { return rollouts.Published(version, replicas, config) }
	}
	outside := append(host.Enter(neighbour), load)
	url := "http://" + host.HostIPv4 + ":8080/"
	const startFirst, stopFirst = "{order: start-first, monitor: 0s}", "{order: stop-first, monitor: 0s}"
	rows := []under{
		{"start-first, 3 replicas", published(3, startFirst), outside, url},
		{"start-first, 1 replica", published(1, startFirst), outside, url},
		{"stop-first, 1 replica", published(1, stopFirst), outside, url},
		{"start-first, 2 replicas, virtual address", func(version int) string {
			return rollouts.Virtual(version, 2, startFirst, smallImage, load)
		}, []string{s.program, "exec", "-T", "client", "/load"}, "http://web/"},
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "rollouts, %d times each\tclients\trequests\tfailed\twithout an answer\n", runs)
	for _, row := range rows {
		fmt.Fprintln(os.Stderr, "stack: rollout "+row.name)
		reports, err := s.rollOut(ctx, row, runs)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		for i, kind := range kinds {
			requests, failed := 0, 0
			var silence []float64
			for _, r := range reports[i] {
				requests, failed, silence = requests+r.Requests, failed+r.Failed, append(silence, r.Silence)
			}
			fmt.Fprintf(out, "%s\t%s\t%d\t%d\t%.0f to %.0f ms\n", row.name, kind.name, requests, failed, slices.Min(silence), slices.Max(silence))
		}
	}
	return out.Flush()
}

// rollOut brings a row's first version up, replaces it several times, and returns the reports by kind of clients.
func (s *stack) rollOut(ctx context.Context, row under, runs int) ([][]report.Report, error) {
	if err := s.file(row.file(1)); err != nil {
		return nil, err
	}
	if _, err := s.run(s.program, "up", "-d", "--wait"); err != nil {
		return nil, err
	}
	reports := make([][]report.Report, len(kinds))
	for version := 2; version < 2+runs; version++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var loads []*rollouts.Load
		for _, kind := range kinds {
			args := append(slices.Clone(row.clients), append([]string{"-url", row.url}, kind.args...)...)
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir, cmd.Env = s.dir, s.env
			l, err := rollouts.Begin(cmd, s.machine.Start)
			if err != nil {
				return nil, err
			}
			loads = append(loads, l)
		}
		if err := s.file(row.file(version)); err != nil {
			return nil, err
		}
		if _, err := s.up(); err != nil {
			return nil, err
		}
		if err := s.endLoads(row, loads, reports); err != nil {
			return nil, err
		}
	}
	_, err := s.down()
	return reports, err
}

// endLoads tells the generators to end, those in the container by what is in there, and adds their reports.
func (s *stack) endLoads(row under, loads []*rollouts.Load, reports [][]report.Report) error {
	if row.clients[0] == s.program {
		if _, err := s.run(s.program, "exec", "-T", "client", "killall", "-INT", "load"); err != nil {
			return err
		}
	} else {
		for _, l := range loads {
			if err := l.Stop(); err != nil {
				return err
			}
		}
	}
	for i, l := range loads {
		r, err := l.End()
		if err != nil {
			return err
		}
		for text, n := range r.Errors {
			fmt.Fprintf(os.Stderr, "%s, %s: %d times %s\n", row.name, kinds[i].name, n, text)
		}
		reports[i] = append(reports[i], r)
	}
	return nil
}
