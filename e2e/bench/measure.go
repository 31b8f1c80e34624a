package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// services is a stack file of n services that sleep, on one network.
func services(n int) string {
	var b strings.Builder
	b.WriteString("name: bench\nservices:\n")
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {image: %q, command: [sleep, infinity], init: false, stop_grace_period: 0s}\n", i, smallImage)
	}
	return b.String()
}

const memoryServices = 30

// warmUp has the daemon running and the image there.
func warmUp(c contender) error {
	if err := c.file(services(1)); err != nil {
		return err
	}
	for _, step := range []func() (float64, error){c.pull, c.up, c.down} {
		if _, err := step(); err != nil {
			return err
		}
	}
	return nil
}

// measure takes every figure of one contender.
func measure(ctx context.Context, c contender, images *images, sizes []int, runs int, results *table) (err error) {
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.start(ctx, images); err != nil {
		return err
	}
	if err := measurePull(c, images, results); err != nil {
		return err
	}
	if err := warmUp(c); err != nil {
		return err
	}
	for _, n := range sizes {
		if err := c.file(services(n)); err != nil {
			return err
		}
		for range runsFor(n, runs) {
			fmt.Fprintf(os.Stderr, "%s: %d services\n", c.name(), n)
			for _, step := range []struct {
				row string
				do  func() (float64, error)
			}{{"up", c.up}, {"up, nothing to do", c.up}, {"down", c.down}} {
				if err := ctx.Err(); err != nil {
					return err
				}
				seconds, err := step.do()
				if err != nil {
					return err
				}
				results.add(fmt.Sprintf("%s, %d", step.row, n), c.name(), seconds)
			}
		}
	}
	if err := measureMemory(c, results); err != nil {
		return err
	}
	return nil
}

// measureMemory takes the memory of one and of many containers; the difference is what a container costs.
// measurePull comes first: ext4 makes files several times slower where many were deleted in the minutes before, as each down
// does.
func measurePull(c contender, images *images, results *table) error {
	if err := c.file(fmt.Sprintf("name: bench\nservices: {big: {image: %q, command: [none]}}\n", bigImage)); err != nil {
		return err
	}
	// What was written before must not compete, and who pulls first must not be the one who reads the layers from disk.
	unix.Sync()
	if err := images.readBig(); err != nil {
		return err
	}
	seconds, err := c.pull()
	if err != nil {
		return err
	}
	results.add(fmt.Sprintf("pull, %d layers, %d MB", bigLayers, images.bigSize>>20), c.name(), seconds)
	return nil
}

func measureMemory(c contender, results *table) error {
	var used [2]int64
	for i, n := range []int{1, memoryServices} {
		if err := c.file(services(n)); err != nil {
			return err
		}
		if _, err := c.up(); err != nil {
			return err
		}
		var err error
		if used[i], err = c.memory(); err != nil {
			return err
		}
		if _, err := c.down(); err != nil {
			return err
		}
	}
	const mib = 1 << 20
	results.add(fmt.Sprintf("memory MiB, %d containers", memoryServices), c.name(), float64(used[1])/mib)
	results.add("memory MiB, each container", c.name(), float64(used[1]-used[0])/(memoryServices-1)/mib)
	return nil
}

func runsFor(n, runs int) int {
	switch {
	case n > 100:
		return min(runs, 2)
	case n > 20:
		return min(runs, 3)
	default:
		return runs
	}
}
