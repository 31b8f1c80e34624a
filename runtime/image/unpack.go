package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// layer is one layer of an image in its place: the same content above different parents is a different snapshot.
type layer struct {
	desc   ocispec.Descriptor // as stored and transferred
	diffID digest.Digest      // of the unpacked tar
	chain  string             // name of its snapshot
	parent string             // name of the snapshot below, empty for the first
}

// dirLabel records a snapshot's folder, relative to the snapshotter's, which containerd does not tell.
const dirLabel = "stack/dir"

// stagePrefix begins the names of snapshots that are being written. What an ended process left of them is removed at the
// next start.
const stagePrefix = "unpack-"

// chainOf pairs layers with their diff IDs and names their snapshots.
func chainOf(layers []ocispec.Descriptor, diffIDs []digest.Digest) []layer {
	chain := make([]layer, len(layers))
	names := identity.ChainIDs(append([]digest.Digest(nil), diffIDs...))
	for i := range layers {
		chain[i] = layer{desc: layers[i], diffID: diffIDs[i], chain: names[i].String()}
		if i > 0 {
			chain[i].parent = chain[i-1].chain
		}
	}
	return chain
}

// unpack makes the snapshots of a chain that are not there yet. Layers not in the content store are downloaded.
func (s *Store) unpack(ctx context.Context, from []host, chain []layer, sub func(Progress)) error {
	work, ctx := errgroup.WithContext(ctx)
	for i := range chain {
		work.Go(func() error { return s.unpackLayer(ctx, from, chain[:i+1], sub) })
	}
	return work.Wait()
}

// unpackLayer makes the topmost snapshot of chain, and those below where nobody else does.
func (s *Store) unpackLayer(ctx context.Context, from []host, chain []layer, sub func(Progress)) error {
	top := chain[len(chain)-1]
	_, err := s.layers.do(ctx, s.base, top.chain, sub, func(work context.Context, report func(Progress)) (struct{}, error) {
		if lease, ok := leaseOf(ctx); ok {
			work = withLease(work, lease)
		}
		if _, err := s.snaps.Stat(work, top.chain); err == nil {
			if _, err := s.content.Info(work, top.desc.Digest); err == nil || len(from) == 0 {
				report(Progress{Layer: top.desc.Digest.String(), Phase: "exists", Total: top.desc.Size})
				return struct{}{}, nil
			}
			// Unpacked from a differently packed blob: the manifest's own is kept too, so that the image stays whole.
			return struct{}{}, s.fetchInSlot(work, from, top.desc, report)
		}
		if s.overlay {
			return struct{}{}, s.unpackApart(work, from, chain, report)
		}
		return struct{}{}, s.unpackOnParent(work, from, chain, report)
	})
	return err
}

func (s *Store) fetchInSlot(ctx context.Context, from []host, desc ocispec.Descriptor, report func(Progress)) error {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer s.slots.Release(1)
	return s.fetch(ctx, from, desc, nil, report)
}

// unpackApart unpacks a layer into a folder of its own while it downloads, whatever the state of its parents, and puts it
// on top of them when they are done.
func (s *Store) unpackApart(ctx context.Context, from []host, chain []layer, report func(Progress)) error {
	top := chain[len(chain)-1]
	st, err := s.stageApart(ctx, from, top, report)
	if err != nil {
		return err
	}
	if err := s.finishApart(ctx, from, chain, st); err != nil {
		return errors.Join(err, s.dropStage(ctx, st.key))
	}
	report(Progress{Layer: top.desc.Digest.String(), Phase: "done", Done: top.desc.Size, Total: top.desc.Size})
	return nil
}

func (s *Store) finishApart(ctx context.Context, from []host, chain []layer, st *stage) error {
	top := chain[len(chain)-1]
	if top.parent != "" {
		if err := s.unpackLayer(ctx, from, chain[:len(chain)-1], nil); err != nil {
			return err
		}
		lowers, err := s.layerDirs(ctx, top.parent)
		if err != nil {
			return err
		}
		if err := st.tree.inherit(lowers); err != nil {
			return classifyUnpack(fmt.Errorf("layer %s: %w", short(top.desc.Digest.String()), err))
		}
	}
	return s.commitStage(ctx, top, st)
}

// stage is a snapshot being written.
type stage struct {
	key  string
	dir  string
	tree *layerTree
}

func (s *Store) newStage(ctx context.Context, parent string) (*stage, error) {
	key := stagePrefix + rand.Text()
	mounts, err := s.prepare(ctx, key, parent)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	// With the snapshotters there are, and no parent (overlay) or any (native), this is a bind of the very folder.
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return nil, errors.Join(fmt.Errorf("snapshot of %s can't be written without a mount", s.opts.Snapshotter), s.dropStage(ctx, key))
	}
	return &stage{key: key, dir: mounts[0].Source}, nil
}

func (s *Store) dropStage(ctx context.Context, key string) error {
	return ignoreNotFound(s.snaps.Remove(context.WithoutCancel(ctx), key))
}

func (s *Store) commitStage(ctx context.Context, l layer, st *stage) error {
	rel, err := filepath.Rel(s.snapDir, st.dir)
	if err != nil {
		return err
	}
	opts := []snapshots.Opt{snapshots.WithLabels(map[string]string{dirLabel: rel})}
	if s.overlay && l.parent != "" {
		opts = append(opts, snapshots.WithParent(l.parent))
	}
	err = s.snaps.Commit(ctx, l.chain, st.key, opts...)
	if errdefs.IsAlreadyExists(err) {
		return s.dropStage(ctx, st.key)
	}
	if err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	return nil
}

// stageApart fetches a layer and unpacks it on the way where it can, from the content store where it can't.
func (s *Store) stageApart(ctx context.Context, from []host, l layer, report func(Progress)) (_ *stage, err error) {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	defer s.slots.Release(1)
	st, err := s.newStage(ctx, "")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && st != nil {
			err = errors.Join(err, s.dropStage(ctx, st.key))
		}
	}()
	if _, err := s.content.Info(ctx, l.desc.Digest); err == nil {
		return st, s.applyStored(ctx, l, st, report)
	}
	done, err := s.stageLive(ctx, from, l, st, report)
	if err != nil || done {
		return st, err
	}
	if err := s.dropStage(ctx, st.key); err != nil {
		return nil, err
	}
	if st, err = s.newStage(ctx, ""); err != nil {
		return nil, err
	}
	return st, s.applyStored(ctx, l, st, report)
}

// stageLive brings the layer into the content store and, if this is the download's beginning, unpacks it meanwhile.
func (s *Store) stageLive(ctx context.Context, from []host, l layer, st *stage, report func(Progress)) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sink := &liveSink{consume: func(r io.Reader) error {
		err := s.apply(ctx, l, st, r)
		if err != nil && !errors.Is(err, errAbandoned) && !errors.Is(err, ErrInvalid) {
			cancel(err) // no use in fetching what can't be written
		}
		return err
	}}
	if err = s.fetch(ctx, from, l.desc, sink, report); err == nil {
		report(Progress{Layer: l.desc.Digest.String(), Phase: "unpacking", Total: l.desc.Size})
	}
	used, applyErr := sink.settle(err != nil)
	if err != nil {
		return false, err
	}
	if errors.Is(applyErr, errAbandoned) || errors.Is(applyErr, ErrInvalid) {
		// What was followed need not be what was kept: a host that sent false bytes may have been left for another.
		return false, nil
	}
	return used, applyErr
}

// unpackOnParent is the way of snapshotters that copy their parent: one layer after the other.
func (s *Store) unpackOnParent(ctx context.Context, from []host, chain []layer, report func(Progress)) error {
	top := chain[len(chain)-1]
	if err := s.fetchInSlot(ctx, from, top.desc, report); err != nil {
		return err
	}
	if top.parent != "" {
		if err := s.unpackLayer(ctx, from, chain[:len(chain)-1], nil); err != nil {
			return err
		}
	}
	st, err := s.newStage(ctx, top.parent)
	if err != nil {
		return err
	}
	if err = s.applyStored(ctx, top, st, report); err == nil {
		err = s.commitStage(ctx, top, st)
	}
	if err != nil {
		return errors.Join(err, s.dropStage(ctx, st.key))
	}
	report(Progress{Layer: top.desc.Digest.String(), Phase: "done", Done: top.desc.Size, Total: top.desc.Size})
	return nil
}

// applyStored unpacks a layer from the content store.
func (s *Store) applyStored(ctx context.Context, l layer, st *stage, report func(Progress)) error {
	report(Progress{Layer: l.desc.Digest.String(), Phase: "unpacking", Total: l.desc.Size})
	ra, err := s.content.ReaderAt(ctx, l.desc)
	if notFound(err) {
		return faultf(ErrNotFound, "layer %s is not in the store", short(l.desc.Digest.String()))
	}
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	defer ra.Close()
	return s.apply(ctx, l, st, content.NewReader(ra))
}

func withLease(ctx context.Context, lease string) context.Context {
	if lease == "" {
		return ctx
	}
	return leases.WithLease(ctx, lease)
}

func leaseOf(ctx context.Context) (string, bool) { return leases.FromContext(ctx) }
