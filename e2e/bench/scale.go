package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// idleFor is how long the processor time of a stack at rest is taken.
const idleFor = 60 * time.Second

// measureScale takes what a stack of n services costs, at rest and for one change, beside the same of few.
func measureScale(ctx context.Context, s *stack, images *images, n int, results *table) (err error) {
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, images); err != nil {
		return err
	}
	if err := warmUp(s); err != nil {
		return err
	}
	const few = 5
	for _, count := range []int{few, n} {
		fmt.Fprintf(os.Stderr, "stack: %d services at rest\n", count)
		if err := s.file(services(count)); err != nil {
			return err
		}
		steps := []struct {
			row  string
			args []string
		}{
			{"up, %d", []string{"up", "-d"}}, {"up, nothing to do, %d", []string{"up", "-d"}}, {"up, nothing to do, %d", []string{"up", "-d"}},
			{"plan, %d", []string{"plan"}}, {"ps, %d", []string{"ps"}}, {"status, %d", []string{"status"}},
		}
		for _, step := range steps {
			seconds, err := s.run(append([]string{s.program}, step.args...)...)
			if err != nil {
				return err
			}
			results.add(fmt.Sprintf(step.row, count), s.name(), seconds)
		}
		if err := s.changeOne(count, results); err != nil {
			return err
		}
		if err := s.atRest(ctx, fmt.Sprintf("%d", count), results); err != nil {
			return err
		}
		used, err := s.memory()
		if err != nil {
			return err
		}
		results.add(fmt.Sprintf("memory MiB, %d", count), s.name(), float64(used)/(1<<20))
		if count == n {
			if err := s.withHealthChecks(ctx, n, results); err != nil {
				return err
			}
		}
		seconds, err := s.down()
		if err != nil {
			return err
		}
		results.add(fmt.Sprintf("down, %d", count), s.name(), seconds)
	}
	return nil
}

// changeOne changes a variable of one service among n, several times.
func (s *stack) changeOne(n int, results *table) error {
	for i := range 5 {
		changed := strings.Replace(services(n), "init: false", fmt.Sprintf("init: false, environment: {V: %q}", strconv.Itoa(i)), 1)
		if err := s.file(changed); err != nil {
			return err
		}
		seconds, err := s.up()
		if err != nil {
			return err
		}
		results.add(fmt.Sprintf("one change among %d", n), s.name(), seconds)
	}
	return nil
}

// atRest takes the share of one core, in percent, that the daemon and the shims use while nothing happens.
func (s *stack) atRest(ctx context.Context, what string, results *table) error {
	for _, program := range []string{"stack", "stack-shim"} {
		before, err := s.cpu(program)
		if err != nil {
			return err
		}
		began := time.Now()
		select {
		case <-time.After(idleFor):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := s.cpu(program)
		if err != nil {
			return err
		}
		results.add(fmt.Sprintf("%% of a core, %s, %s", program, what), s.name(), 100*(after-before).Seconds()/time.Since(began).Seconds())
	}
	return nil
}

// withHealthChecks adds a check each 30 seconds to every service, which needs no new container.
func (s *stack) withHealthChecks(ctx context.Context, n int, results *table) error {
	checked := strings.ReplaceAll(services(n), "init: false", "init: false, healthcheck: {test: [CMD, sleep, '0'], interval: 30s}")
	if err := s.file(checked); err != nil {
		return err
	}
	if _, err := s.run(s.program, "up", "-d", "--wait"); err != nil {
		return err
	}
	return s.atRest(ctx, fmt.Sprintf("%d with health checks", n), results)
}

// cpu adds up the processor time of the machine's processes of a program, the children that they have waited for included.
func (b *box) cpu(program string) (time.Duration, error) {
	processes, err := b.processes(program)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	var sum time.Duration
	for _, dir := range processes {
		content, _ := os.ReadFile(filepath.Join(dir, "stat"))
		_, rest, _ := strings.Cut(string(content), ") ")
		fields := strings.Fields(rest)
		for i := 11; i <= 14 && i < len(fields); i++ { // utime, stime, cutime, cstime: proc_pid_stat(5)
			ticks, _ := strconv.ParseInt(fields[i], 10, 64)
			sum += time.Duration(ticks) * tick
		}
	}
	return sum, err
}
