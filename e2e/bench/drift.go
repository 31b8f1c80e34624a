package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "drift, %d times each\tmedian\tp95\tmost\n", runs)
	for _, d := range damage.All() {
		fmt.Fprintln(os.Stderr, "stack: "+d.Name)
		var took []float64
		for range runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			seconds, err := s.run("bash", "-c", d.Script())
			if err != nil {
				return err
			}
			took = append(took, seconds)
			// Until all is well, and so long that it counts as new when it comes again.
			if _, err := s.run("bash", "-c", "until "+s.program+" status; do sleep 0.05; done; sleep 2.2"); err != nil {
				return err
			}
		}
		slices.Sort(took)
		fmt.Fprintf(out, "%s\t%.0f ms\t%.0f ms\t%.0f ms\n", d.Name, 1000*took[len(took)/2], 1000*took[len(took)*95/100], 1000*took[len(took)-1])
	}
	if _, err := s.down(); err != nil {
		return err
	}
	return out.Flush()
}
