package daemon

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/reconciler/watch/ignore"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/place"
	"github.com/stack-run/stack/spec"
)

// Place places files in the containers of a service that run. Each container has a result of its own: one that has just
// ended keeps nothing from the others.
func (b *backend) Place(ctx context.Context, stack string, req api.PlaceRequest, from string) (api.PlaceResult, error) {
	var sets []place.Set
	for _, s := range req.Sets {
		set, err := placeSet(s)
		if err != nil {
			return api.PlaceResult{}, &api.Error{Code: api.Invalid, Address: spec.ServiceAddress(req.Service).String(), Message: err.Error()}
		}
		sets = append(sets, set)
	}
	var mu sync.Mutex
	var result api.PlaceResult
	var group sync.WaitGroup
	for _, v := range b.engine.Service(stack, req.Service) {
		if v.OneOff || !v.Running() || len(req.Containers) > 0 && !slices.Contains(req.Containers, v.ID) {
			continue
		}
		group.Go(func() {
			own := slices.Clone(sets)
			for i := range own {
				own[i].Paths = slices.Clone(own[i].Paths) // they are sorted on the way
			}
			report, err := b.engine.Place(ctx, v.ID, from, own)
			if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrNotFound) {
				return // it has just ended; whoever watches hears of its next start
			}
			mu.Lock()
			defer mu.Unlock()
			result.Containers = append(result.Containers, b.placed(ctx, v, report, err))
		})
	}
	group.Wait()
	slices.SortFunc(result.Containers, func(a, b api.Placed) int { return strings.Compare(a.Name, b.Name) })
	return result, ctx.Err()
}

func placeSet(s api.PlaceSet) (place.Set, error) {
	if !filepath.IsAbs(s.Source) || !path.IsAbs(s.Target) {
		return place.Set{}, fmt.Errorf("%q and %q must be absolute paths", s.Source, s.Target)
	}
	matcher, err := ignore.New(s.Source, s.Ignore...)
	if err != nil {
		return place.Set{}, err
	}
	return place.Set{
		Source: filepath.Clean(s.Source), Target: path.Clean(s.Target), Paths: s.Paths,
		Keep: func(rel string) bool { return matcher.Ignored(filepath.Join(s.Source, rel)) },
	}, nil
}

func (b *backend) placed(ctx context.Context, v runtime.View, r place.Report, err error) api.Placed {
	out := api.Placed{
		ID: v.ID, Name: v.Name, Written: r.Written, Unchanged: r.Unchanged, Removed: r.Removed, Skipped: r.Skipped, Bytes: r.Bytes,
	}
	for _, f := range r.Failures {
		out.Failures = append(out.Failures, api.PlaceFailure{Path: f.Path, Message: f.Err.Error()})
	}
	if err != nil {
		out.Error = b.failure(ctx, err)
		if errors.Is(err, unix.EROFS) {
			out.Error.Code = api.ReadOnly
			out.Error.Remedy = "sync into a volume or a tmpfs, take `read_only` out, or use the action rebuild"
		}
	}
	return out
}
