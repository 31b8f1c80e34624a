package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// partLife is how long what an interrupted pull has fetched is kept for the next try.
const partLife = 24 * time.Hour

// Pull brings an image and its unpacked layers into the store and points ref to it. What is there already is not fetched
// again, and callers asking for the same image or layers at the same time share the work. The name is recorded last: until
// then the image does not exist, and what an interrupted pull leaves is resumed by the next one within a day.
//
// Errors are *Error, classified by the package's sentinels.
func (s *Store) Pull(ctx context.Context, ref string, opts PullOptions) (Image, error) {
	ctx = s.ctx(ctx)
	r, err := ParseReference(ref)
	if err != nil {
		return Image{}, err
	}
	want, err := parsePlatform(opts.Platform)
	if err != nil {
		return Image{}, describe(ctx, r.String(), err)
	}
	p := puller{s: s, ref: r, want: want, strict: opts.Platform != ""}
	key := fmt.Sprint(r.key(), "#", formatPlatform(want), p.strict)
	img, err := s.pulls.do(ctx, s.base, key, namedProgress(opts.Progress, r.String()), p.run)
	return img, describe(ctx, r.String(), err)
}

// namedProgress adds the reference of the caller to each step, since the work may be shared.
func namedProgress(report func(Progress), ref string) func(Progress) {
	if report == nil {
		return nil
	}
	return func(p Progress) {
		p.Ref = ref
		report(p)
	}
}

// Resolve asks the registry which digest ref points to now, without fetching the image: the digest an Image pulled now would
// have. The platform plays no part in it, as the name points to the index.
func (s *Store) Resolve(ctx context.Context, ref, _ string) (string, error) {
	ctx = s.ctx(ctx)
	r, err := ParseReference(ref)
	if err != nil {
		return "", err
	}
	if d := r.Digest(); d != "" {
		return d.String(), nil
	}
	d, err := s.registry.resolve(ctx, r)
	return d.String(), describe(ctx, r.String(), err)
}

// puller is one pull.
type puller struct {
	s      *Store
	ref    Reference
	want   ocispec.Platform
	strict bool // the platform was asked for by name
	report func(Progress)
	lease  leases.Lease
}

func (p puller) run(ctx context.Context, report func(Progress)) (_ Image, err error) {
	s := p.s
	s.garbage.hold()
	defer s.release()
	p.report = report
	report(Progress{Phase: "resolving"})
	if img, ok := p.current(ctx); ok {
		report(Progress{Phase: "exists", Total: img.Size})
		return img, nil
	}
	if err := p.openLease(ctx); err != nil {
		return Image{}, err
	}
	img, err := p.bring(withLease(ctx, p.lease.ID))
	if err == nil || isNoSpace(err) || errors.Is(err, ErrInvalid) {
		// On success the image's record refers to everything; of the others nothing is worth keeping.
		err = errors.Join(err, ignoreNotFound(s.leases.Delete(context.WithoutCancel(ctx), p.lease)))
	}
	if isNoSpace(err) || errors.Is(err, ErrInvalid) {
		s.garbage.pending.Store(true)
	}
	if err == nil {
		report(Progress{Phase: "done", Done: img.Size, Total: img.Size})
	}
	return img, err
}

// current returns the image the name points to here, if the registry's answer is that it is up to date and it is whole.
func (p *puller) current(ctx context.Context) (Image, bool) {
	found, all, err := p.s.find(ctx, p.ref.String(), formatPlatform(p.want))
	if err != nil {
		return Image{}, false
	}
	have := found[0]
	if p.ref.Digest() == "" {
		if d, err := p.s.registry.resolve(ctx, p.ref); err != nil || d != have.target.Digest {
			return Image{}, false
		}
	} else if !slices.ContainsFunc(found, func(r record) bool { return r.name == p.ref.key() }) {
		return Image{}, false // pulled under a tag: the digest deserves a name of its own
	}
	d, err := p.s.document(ctx, have.manifest)
	if err != nil {
		return Image{}, false
	}
	if top := d.top(); top != "" {
		if _, err := p.s.snaps.Stat(ctx, top); err != nil {
			return Image{}, false
		}
	}
	img, err := p.s.assemble(ctx, have.id, have.platform, all)
	return img, err == nil
}

// openLease keeps what this pull fetches from being collected, through failures and restarts, until it is resumed.
func (p *puller) openLease(ctx context.Context) error {
	sum := sha256.Sum256([]byte(p.ref.key()))
	p.lease.ID = "pull-" + hex.EncodeToString(sum[:8])
	_, err := p.s.leases.Create(ctx, leases.WithID(p.lease.ID), leases.WithExpiration(partLife))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("image store: lease: %w", err)
	}
	return nil
}

// bring fetches documents and layers, unpacks, and records the name.
func (p *puller) bring(ctx context.Context) (Image, error) {
	target, d, from, err := p.documents(ctx)
	if err != nil {
		return Image{}, err
	}
	platform, err := p.check(d)
	if err != nil {
		return Image{}, err
	}
	if err := p.s.unpackDurably(ctx, from, d, p.report); err != nil {
		return Image{}, err
	}
	r := record{name: p.ref.key(), platform: formatPlatform(platform), target: target, manifest: d.desc.Digest,
		id: d.manifest.Config.Digest.String(), pulled: time.Now(), remote: true}
	if err := p.s.setName(ctx, r, d); err != nil {
		return Image{}, err
	}
	all, err := p.s.records(ctx)
	if err != nil {
		return Image{}, err
	}
	return p.s.assemble(ctx, r.id, r.platform, all)
}

// unpackDurably unpacks an image's layers so that a power failure can't leave half-written files in use.
func (s *Store) unpackDurably(ctx context.Context, from []host, d *document, report func(Progress)) error {
	mark, err := s.markUnsynced(d.chain)
	if err != nil {
		return err
	}
	defer s.syncLater(mark)
	return s.unpack(ctx, from, d.chain, report)
}

// documents fetches what the name points to and, through an index, the manifest and config for the platform.
func (p *puller) documents(ctx context.Context) (target ocispec.Descriptor, d *document, from []host, err error) {
	hosts, err := p.s.registry.hosts(p.ref)
	if err != nil {
		return target, nil, nil, err
	}
	m, err := p.s.registry.manifest(ctx, hosts, p.ref)
	if err != nil {
		return target, nil, nil, err
	}
	target = m.desc
	if err := p.s.keepSmall(ctx, m.desc, m.body); err != nil {
		return target, nil, nil, err
	}
	if images.IsIndexType(m.desc.MediaType) {
		if m, err = p.throughIndex(ctx, m); err != nil {
			return target, nil, nil, err
		}
	}
	if d, err = parseManifest(m.desc, m.body, p.s.opts.Limits); err != nil {
		return target, nil, nil, err
	}
	if err := p.s.fetch(ctx, m.from, d.manifest.Config, nil, nil); err != nil {
		return target, nil, nil, fmt.Errorf("config: %w", err)
	}
	body, err := p.s.readSmall(ctx, d.manifest.Config)
	if err != nil {
		return target, nil, nil, err
	}
	return target, d, m.from, d.setConfig(body)
}

// throughIndex follows an index to the manifest for the platform.
func (p *puller) throughIndex(ctx context.Context, m manifest) (manifest, error) {
	idx, err := parseIndex(m.body)
	if err != nil {
		return m, err
	}
	desc, err := choose(idx.Manifests, p.want)
	if err != nil {
		return m, err
	}
	if body, err := p.s.readSmall(ctx, desc); err == nil {
		return manifest{desc: desc, body: body, from: m.from}, nil
	}
	ref, err := ParseReference(p.ref.Repository() + "@" + desc.Digest.String())
	if err != nil {
		return m, faultf(ErrInvalid, "index names %q", desc.Digest)
	}
	next, err := p.s.registry.manifest(ctx, m.from, ref)
	if err != nil {
		return m, err
	}
	if images.IsIndexType(next.desc.MediaType) {
		return m, faultf(ErrInvalid, "an index within an index")
	}
	return next, p.s.keepSmall(ctx, next.desc, next.body)
}

// choose finds the manifest of an index that fits the platform best.
func choose(manifests []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	fits := matcher(want)
	var best *ocispec.Descriptor
	var have []string
	for i, m := range manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" || !images.IsManifestType(m.MediaType) {
			continue // attestations and other attachments
		}
		have = append(have, formatPlatform(*m.Platform))
		if fits.Match(*m.Platform) && (best == nil || fits.Less(*m.Platform, *best.Platform)) {
			best = &manifests[i]
		}
	}
	if best == nil && len(have) == 0 && len(manifests) == 1 {
		return manifests[0], nil // an index that says nothing of platforms
	}
	if best == nil {
		return ocispec.Descriptor{}, faultf(ErrPlatform, "wanted %s, it has %s", formatPlatform(want), strings.Join(have, ", "))
	}
	return *best, nil
}

// check holds the config's platform against the one asked for. Without a request, an image for another platform alone is
// taken as it is, as docker does.
func (p *puller) check(d *document) (ocispec.Platform, error) {
	have := d.platform(p.want)
	if p.strict && !matcher(p.want).Match(have) {
		return have, faultf(ErrPlatform, "wanted %s, it is for %s", formatPlatform(p.want), formatPlatform(have))
	}
	return have, nil
}

// keepSmall writes a document into the content store.
func (s *Store) keepSmall(ctx context.Context, desc ocispec.Descriptor, body []byte) error {
	if err := verifyDigest(body, desc.Digest); err != nil {
		return err
	}
	err := content.WriteBlob(ctx, s.content, "doc-"+desc.Digest.String(), bytes.NewReader(body),
		ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: int64(len(body))})
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	return nil
}
