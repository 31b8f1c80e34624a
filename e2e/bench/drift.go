package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/stack-run/stack/e2e/damage"
)

// measureDrift takes how long each kind of damage takes to be put right, and prints the median and the 95th percentile.
func measureDrift(ctx context.Context, s *stack, images *images, runs int, w io.Writer) (err error) {
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, images); err != nil {
		return err
	}
	if err := s.file(damage.File(smallImage)); err != nil {
		return err
	}
	if _, err := s.run(s.program, "up", "-d", "--wait"); err != nil {
		return err
	}
	if _, err := s.run("bash", "-c", "until "+damage.Answers+"; do sleep 0.01; done"); err != nil {
		return err
	}
	kinds := damage.All()
	took := make([][]float64, len(kinds))
	for run := range runs {
		fmt.Fprintf(os.Stderr, "stack: damage, round %d\n", run+1)
		for i, d := range kinds {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.damage(d, &took[i]); err != nil {
				return err
			}
		}
		// So long that it counts as new when it comes again.
		if _, err := s.run("sleep", "2.2"); err != nil {
			return err
		}
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "drift, %d times each\tmedian\tp95\tmost\n", runs)
	for i, d := range kinds {
		slices.Sort(took[i])
		n := len(took[i])
		fmt.Fprintf(out, "%s\t%.0f ms\t%.0f ms\t%.0f ms\n", d.Name, 1000*took[i][n/2], 1000*took[i][(n*95+99)/100-1], 1000*took[i][n-1])
	}
	if _, err := s.down(); err != nil {
		return err
	}
	return out.Flush()
}

// damage does one thing to the stack, adds how long it took to be put right, and waits until all is well.
func (s *stack) damage(d damage.Damage, took *[]float64) error {
	if _, err := s.run("bash", "-c", "PATH="+filepath.Dir(s.program)+":$PATH; "+d.Script()); err != nil {
		return err
	}
	output, err := os.ReadFile(filepath.Join(s.dir, "output"))
	if err != nil {
		return err
	}
	micros, err := strconv.ParseInt(strings.TrimSpace(string(output)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	*took = append(*took, float64(micros)/1e6)
	_, err = s.run("timeout", "60", "bash", "-c", "until "+s.program+" status; do sleep 0.05; done")
	return err
}
