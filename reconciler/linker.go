package reconciler

import (
	"context"
	"slices"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
)

// linker connects sandboxes to their networks and disconnects them, in batches: a removal of a link waits for every
// processor, and so does a transaction of rules, however much is in it.
type linker struct {
	connects    batcher[netdriver.Sandbox]
	disconnects batcher[netdriver.Sandbox]
}

func newLinker(ctx context.Context, networks *netdriver.Manager) *linker {
	l := &linker{}
	l.connects.serve = func(batch []*netdriver.Sandbox) error {
		done, err := networks.Connect(ctx, values(batch))
		if err == nil {
			err = networks.Publish(ctx, done)
		}
		if err == nil {
			for i, sb := range batch {
				*sb = done[i]
			}
		}
		return err
	}
	l.disconnects.serve = func(batch []*netdriver.Sandbox) error {
		var published []string
		for _, sb := range batch {
			if netdriver.Published(sb.Endpoints) {
				published = append(published, sb.ContainerID)
			}
		}
		if len(published) > 0 {
			if err := networks.Unpublish(ctx, published); err != nil {
				return err
			}
		}
		return networks.Disconnect(ctx, values(batch))
	}
	return l
}

func values(batch []*netdriver.Sandbox) []netdriver.Sandbox {
	out := slices.Grow([]netdriver.Sandbox(nil), len(batch))
	for _, sb := range batch {
		out = append(out, *sb)
	}
	return out
}

// connect sets up a sandbox's endpoints, publishes their ports, and returns it completed.
func (l *linker) connect(sb netdriver.Sandbox) (netdriver.Sandbox, error) {
	err := l.connects.do(&sb)
	return sb, err
}

// disconnect takes all of that down.
func (l *linker) disconnect(sb netdriver.Sandbox) error { return l.disconnects.do(&sb) }

// group is whom a container shares its service's host ports and names with; a one-off container shares nothing.
func group(rec *runtime.Record) string {
	if rec.OneOff {
		return ""
	}
	return rec.Stack + "/" + rec.Service
}

// grouped are a container's endpoints with the group that an older daemon left out.
func grouped(v runtime.View) []netdriver.Endpoint {
	out := slices.Clone(v.Endpoints)
	for i := range out {
		out[i].Group = group(&v.Record)
	}
	return out
}
