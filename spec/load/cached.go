package load

import (
	"context"
	"slices"
	"time"

	"github.com/stack-run/stack/spec/cache"
)

// Cached is Load for a command that may run again on the same files: a result that still holds is taken from the
// directory, and a new one kept there. Where some services were changed the others are taken from there (see partly). Version is the program's. A directory that can't be written to costs time only.
//
// A result from the cache has no project to Render.
func Cached(ctx context.Context, dir, version string, o Options) (*Result, error) {
	if slices.Contains(o.Files, stdinName) {
		return Load(ctx, o)
	}
	key, err := cache.NewKey(version, o)
	if err != nil {
		return nil, err
	}
	where := o
	where.Environ = nil
	slot, err := cache.NewKey(where)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	found, ok := cache.Lookup(dir, slot, key)
	if ok && len(found.Changed) == 0 {
		if e := found.Entry(); e != nil {
			return &Result{Stack: e.Stack, Warnings: e.Warnings}, nil
		}
	}
	if ok && found.Written != nil {
		go found.Entry() // while the files are read
	}
	src, err := discover(o)
	if err != nil {
		return nil, err
	}
	src.earlier = &earlier{Found: found}
	result, err := src.load(ctx, o, started)
	if err != nil {
		return nil, err
	}
	if result.Inputs != nil {
		// Not kept is not wrong: the next load is as good as this one.
		_ = cache.Store(dir, slot, key, cache.Entry{Stack: result.Stack, Warnings: result.Warnings}, result.written, result.Inputs, result.Started)
	}
	return result, nil
}
