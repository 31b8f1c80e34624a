// Bench measures Stack side by side with a Docker engine and its Compose, and with the bare runtime, in one run:
//
//	go run ./e2e/bench [-n 1,10,50,200] [-runs 5] [-who stack,docker,crun] [-scale 500] [-drift 10] [-rollout 5] [-watch 5]
//
// Each contender gets a machine of its own (e2e/host), one after the other. Times are wall seconds, the minimum and in
// brackets the median of the runs; ratios compare minima. Everything is taken down at the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A contender brings stack files up on a machine.
type contender interface {
	name() string
	start(context.Context, *images) error
	// file gets the stack file of the following calls.
	file(compose string) error
	// up, down and pull return the seconds they took; pull takes the file's image, which is not there yet.
	up() (float64, error)
	down() (float64, error)
	pull() (float64, error)
	// memory is the PSS in bytes of everything that runs but for the containers' own processes.
	memory() (int64, error)
	stop() error
}

func main() {
	counts := flag.String("n", "1,10,50,200", "numbers of services; empty: none")
	runs := flag.Int("runs", 5, "runs of each, fewer for the large ones")
	who := flag.String("who", "stack,docker,crun", "contenders")
	drift := flag.Int("drift", 10, "times each kind of damage is done; 0: none")
	rollout := flag.Int("rollout", 5, "times each kind of rollout is done under load; 0: none")
	scale := flag.Int("scale", 500, "services of the large stack; 0: none")
	bursts := flag.Int("watch", 5, "bursts of files in watch mode, after 200 saves; 0: none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *counts, *runs, *scale, *drift, *rollout, *bursts, strings.Split(*who, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, counts string, runs, scale, drift, rollout, bursts int, who []string) error {
	var sizes []int
	for word := range strings.FieldsFuncSeq(counts, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		sizes = append(sizes, n)
	}
	images, err := makeImages(ctx)
	if err != nil {
		return err
	}
	defer images.remove()
	results := newTable()
	for _, c := range []contender{&stack{}, &docker{}} {
		if len(sizes) == 0 || !slices.Contains(who, c.name()) {
			continue
		}
		if err := measure(ctx, c, images, sizes, runs, results); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	if len(sizes) > 0 && slices.Contains(who, "crun") {
		if err := measureBare(ctx, images, sizes, runs, results); err != nil {
			return fmt.Errorf("crun: %w", err)
		}
	}
	for _, w := range []watcher{&stack{}, &docker{}} {
		if bursts == 0 || !slices.Contains(who, w.name()) {
			continue
		}
		if err := measureWatch(ctx, w, images, bursts, results); err != nil {
			return fmt.Errorf("%s: watch: %w", w.name(), err)
		}
	}
	if drift > 0 && slices.Contains(who, "stack") {
		if err := measureDrift(ctx, &stack{}, images, drift, os.Stdout); err != nil {
			return fmt.Errorf("drift: %w", err)
		}
	}
	if rollout > 0 && slices.Contains(who, "stack") {
		if err := measureRollouts(ctx, &stack{}, images, rollout, os.Stdout); err != nil {
			return fmt.Errorf("rollouts: %w", err)
		}
	}
	if scale > 0 && slices.Contains(who, "stack") {
		if err := measureScale(ctx, &stack{}, images, scale, results); err != nil {
			return fmt.Errorf("%d services: %w", scale, err)
		}
	}
	results.print(os.Stdout)
	return nil
}
