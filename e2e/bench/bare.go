package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	testimages "github.com/stack-run/stack/e2e/images"
)

// bareSetup unpacks the image and makes $2 bundles below $1, each with its overlay mounted: what is measured afterwards is
// the runtime alone.
//
//go:embed bare.sh
var bareSetup string

// measureBare starts and removes the same containers by crun alone, two at once, without network: the least that it takes.
func measureBare(ctx context.Context, images *images, sizes []int, runs int, results *table) (err error) {
	b := &box{}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.boot(ctx, images); err != nil {
		return err
	}
	rootfs := filepath.Join(b.dir, "rootfs")
	if err := testimages.Unpack(ctx, "busybox:latest", rootfs); err != nil {
		return err
	}
	for _, n := range sizes {
		dir := filepath.Join(b.dir, strconv.Itoa(n))
		if _, err := b.run("bash", "-euc", bareSetup, "bare", dir, strconv.Itoa(n), rootfs); err != nil {
			return err
		}
		for range runsFor(n, runs) {
			fmt.Fprintf(os.Stderr, "crun: %d containers\n", n)
			for _, step := range []struct{ row, command string }{
				{"up", `crun run -d --bundle ` + dir + `/{} c{} </dev/null >/dev/null 2>&1`},
				{"down", `crun delete -f c{}`},
			} {
				seconds, err := b.run("bash", "-c", `seq `+strconv.Itoa(n)+` | xargs -P2 -I{} sh -c '`+step.command+`'`)
				if err != nil {
					return err
				}
				results.add(fmt.Sprintf("%s, %d", step.row, n), "crun", seconds)
			}
		}
	}
	return nil
}
