package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load brings the images of an archive into the store: an OCI layout, what `docker save` writes (of any age), or a plain
// root filesystem, which becomes an image of one layer; each as tar, plain or packed with gzip or zstd. Loading the same
// archive again yields the same image.
func (s *Store) Load(ctx context.Context, r io.Reader, opts LoadOptions) ([]Image, error) {
	ctx = s.ctx(ctx)
	label := opts.Name
	if label == "" {
		label = "archive"
	}
	images, err := s.load(ctx, r, opts)
	if err != nil && errors.Is(err, ErrInvalid) && kindOf(err) == ErrInvalid {
		return nil, &Error{Ref: label, Kind: ErrInvalid, Cause: err, Remedy: "give an OCI layout, a `docker save` archive or a root filesystem, as tar, plain or packed with gzip or zstd"}
	}
	return images, describe(ctx, label, err)
}

func (s *Store) load(ctx context.Context, r io.Reader, opts LoadOptions) (_ []Image, err error) {
	l := loader{s: s, opts: opts, report: func(Progress) {}}
	if l.want, err = parsePlatform(opts.Platform); err != nil {
		return nil, err
	}
	if opts.Name != "" {
		ref, err := ParseReference(opts.Name)
		if err != nil {
			return nil, err
		}
		if ref.Digest() != "" {
			return nil, faultf(ErrInvalid, "a name given to an image has a tag, not a digest")
		}
		l.name = ref.String()
	}
	if opts.Progress != nil {
		l.report = namedProgress(opts.Progress, l.name)
	}
	if l.archive, err = spool(s.opts.Root, contextReader{ctx, r}, s.opts.Limits); err != nil {
		return nil, err
	}
	defer l.archive.file.Close()
	s.garbage.hold()
	defer s.release()
	images, err := l.run(ctx)
	if err != nil {
		s.garbage.pending.Store(true) // what was brought in before it failed
	}
	return images, err
}

// contextReader ends a copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// loader is one Load.
type loader struct {
	s       *Store
	opts    LoadOptions
	name    string // normalised, may be empty
	want    ocispec.Platform
	archive *archiveFile
	report  func(Progress)
}

// found is one image of an archive, its blobs being in the content store.
type found struct {
	names  []string // normalised
	target ocispec.Descriptor
	doc    *document
}

func (l *loader) run(ctx context.Context) ([]Image, error) {
	var list []found
	var err error
	switch {
	case l.archive.has("index.json") && l.archive.has("oci-layout"):
		list, err = l.ociLayout(ctx)
	case l.isDockerArchive():
		list, err = l.dockerArchive(ctx)
	default:
		list, err = l.rootFilesystem(ctx)
	}
	if err != nil {
		return nil, err
	}
	if l.name != "" {
		if len(list) > 1 {
			return nil, faultf(ErrInvalid, "the archive holds %d images: one name can't be given to all", len(list))
		}
		list[0].names = []string{l.name}
	}
	images := make([]Image, len(list))
	for i, f := range list {
		if images[i], err = l.record(ctx, f); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// record unpacks an image and gives it its names.
func (l *loader) record(ctx context.Context, f found) (Image, error) {
	if err := l.s.unpackDurably(ctx, nil, f.doc, l.report); err != nil {
		return Image{}, err
	}
	names := f.names
	if len(names) == 0 {
		names = []string{noName + "@" + f.target.Digest.String()}
	}
	r := record{platform: formatPlatform(f.doc.platform(l.want)), target: f.target, manifest: f.doc.desc.Digest,
		id: f.doc.manifest.Config.Digest.String(), pulled: time.Now()}
	for _, r.name = range names {
		if err := l.s.setName(ctx, r, f.doc); err != nil {
			return Image{}, err
		}
	}
	all, err := l.s.records(ctx)
	if err != nil {
		return Image{}, err
	}
	l.report(Progress{Phase: "done", Done: f.doc.size, Total: f.doc.size})
	return l.s.assemble(ctx, r.id, r.platform, all)
}

// rootFilesystem makes an image of one layer: the archive as it is.
func (l *loader) rootFilesystem(ctx context.Context) ([]found, error) {
	if l.name == "" {
		return nil, faultf(ErrInvalid, "it is no archive of images but a root filesystem, which needs a name")
	}
	whole := io.NewSectionReader(l.archive.file, 0, l.archive.size)
	desc, err := l.addBlob(ctx, whole, ocispec.MediaTypeImageLayer)
	if err != nil {
		return nil, err
	}
	config := struct {
		ocispec.Platform
		Config Config         `json:"config"`
		RootFS ocispec.RootFS `json:"rootfs"`
	}{Platform: l.want, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{desc.Digest}}}
	config.OSVersion, config.OSFeatures = "", nil // this host's, of no concern to the image
	if l.opts.Config != nil {
		config.Config = *l.opts.Config
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	f, err := l.compose(ctx, raw, []ocispec.Descriptor{desc}, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig)
	return []found{f}, err
}

// compose writes config and manifest for layers that are in the content store.
func (l *loader) compose(ctx context.Context, config []byte, layers []ocispec.Descriptor, manifestType, configType string) (found, error) {
	m := ocispec.Manifest{MediaType: manifestType, Layers: layers, Config: ocispec.Descriptor{
		MediaType: configType, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	m.SchemaVersion = 2
	if m.Layers == nil {
		m.Layers = []ocispec.Descriptor{}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return found{}, err
	}
	desc := ocispec.Descriptor{MediaType: manifestType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	doc, err := parseManifest(desc, body, l.s.opts.Limits)
	if err == nil {
		err = doc.setConfig(config)
	}
	if err == nil {
		err = l.s.keepSmall(ctx, m.Config, config)
	}
	if err == nil {
		err = l.s.keepSmall(ctx, desc, body)
	}
	return found{target: desc, doc: doc}, err
}

// addBlob writes a blob whose digest nobody has told into the content store.
func (l *loader) addBlob(ctx context.Context, r *io.SectionReader, mediaType string) (ocispec.Descriptor, error) {
	digester := digest.Canonical.Digester()
	if _, err := io.Copy(digester.Hash(), contextReader{ctx, io.NewSectionReader(r, 0, r.Size())}); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digester.Digest(), Size: r.Size()}
	return desc, l.copyBlob(ctx, r, desc)
}

// copyBlob writes a blob into the content store and verifies it.
func (l *loader) copyBlob(ctx context.Context, r *io.SectionReader, desc ocispec.Descriptor) error {
	if r.Size() != desc.Size {
		return faultf(ErrInvalid, "blob %s has %d bytes, should have %d", short(desc.Digest.String()), r.Size(), desc.Size)
	}
	err := content.WriteBlob(ctx, l.s.content, ingestRef(desc), contextReader{ctx, r}, desc)
	if isFailedPrecondition(err) {
		err = errors.Join(faultf(ErrInvalid, "blob %s: %w", short(desc.Digest.String()), err), ignoreNotFound(l.s.content.Abort(ctx, ingestRef(desc))))
	}
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	return nil
}

// normalised are the names of an archive that are references; what is none is left out.
func normalised(names []string) []string {
	var list []string
	for _, n := range names {
		if ref, err := ParseReference(n); err == nil && ref.Digest() == "" && !slices.Contains(list, ref.String()) {
			list = append(list, ref.String())
		}
	}
	return list
}
