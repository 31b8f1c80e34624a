package image

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A record is one name of one image for one platform, kept in containerd's image store under "name#platform". The name is a
// tagged reference; or repository@digest, for what was pulled by digest and for what lost its tag to a newer image; or
// "<none>@digest" for an image that never had a name. An image exists as long as it has a record.
type record struct {
	name     string // without the platform
	platform string
	target   ocispec.Descriptor // what the name points to: an index or a manifest
	manifest digest.Digest
	id       string // config digest
	pulled   time.Time
	remote   bool // came from a registry, so that repository@digest means something elsewhere
	demoted  bool // by digest only because the tag moved on: nobody asked for it
}

const (
	labelID       = "stack/id"
	labelManifest = "stack/manifest"
	labelPulled   = "stack/pulled"
	labelRemote   = "stack/remote"
	labelDemoted  = "stack/demoted"
	gcContent     = "containerd.io/gc.ref.content."
	gcSnapshot    = "containerd.io/gc.ref.snapshot."
)

const noName = "<none>"

func recordKey(name, platform string) string { return name + "#" + platform }

func readRecord(img images.Image) record {
	r := record{target: img.Target, id: img.Labels[labelID], manifest: digest.Digest(img.Labels[labelManifest])}
	r.name, r.platform, _ = strings.Cut(img.Name, "#")
	r.pulled, _ = time.Parse(time.RFC3339Nano, img.Labels[labelPulled])
	r.remote, _ = strconv.ParseBool(img.Labels[labelRemote])
	r.demoted, _ = strconv.ParseBool(img.Labels[labelDemoted])
	return r
}

// image makes containerd's record, which refers to all that garbage collection must keep.
func (r record) image(d *document, snapshotter string) images.Image {
	labels := map[string]string{
		labelID:                  r.id,
		labelManifest:            r.manifest.String(),
		labelPulled:              r.pulled.UTC().Format(time.RFC3339Nano),
		labelRemote:              strconv.FormatBool(r.remote),
		labelDemoted:             strconv.FormatBool(r.demoted),
		gcContent + "m":          r.manifest.String(),
		gcContent + "config":     d.manifest.Config.Digest.String(),
		gcSnapshot + snapshotter: d.top(),
	}
	if d.top() == "" {
		delete(labels, gcSnapshot+snapshotter)
	}
	for i, l := range d.manifest.Layers {
		labels[gcContent+"l."+strconv.Itoa(i)] = l.Digest.String()
	}
	return images.Image{Name: recordKey(r.name, r.platform), Target: r.target, Labels: labels}
}

// isTag reports a name with a tag, as opposed to a digest.
func (r record) isTag() bool { return !strings.Contains(r.name, "@") }

// repository is the name's without tag and digest; empty for an image without a name.
func (r record) repository() string {
	if strings.HasPrefix(r.name, noName) {
		return ""
	}
	ref, err := ParseReference(r.name)
	if err != nil {
		return ""
	}
	return ref.Repository()
}

// nameCache holds all records between changes; the store's process is the only one that makes any.
type nameCache struct {
	mu      sync.Mutex
	records []record
	valid   bool
}

// changed makes the next reader look at the database. Called after each change, successful or not.
func (c *nameCache) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records, c.valid = nil, false
}

// records lists all names. The slice is shared: not to be changed.
func (s *Store) records(ctx context.Context) ([]record, error) {
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	if s.names.valid {
		return s.names.records, nil
	}
	list, err := s.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("image store: names: %w", err)
	}
	records := make([]record, len(list))
	for i, img := range list {
		records[i] = readRecord(img)
	}
	s.names.records, s.names.valid = records, true
	return records, nil
}

// setName points a name to an image. An image that loses its last name to it stays, under its digest.
func (s *Store) setName(ctx context.Context, r record, d *document) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	defer s.names.changed()
	key := recordKey(r.name, r.platform)
	old, err := s.images.Get(ctx, key)
	if err == nil && old.Labels[labelID] != r.id {
		if err := s.keepUnnamed(ctx, readRecord(old)); err != nil {
			return err
		}
	}
	img := r.image(d, s.opts.Snapshotter)
	if err == nil {
		_, err = s.images.Update(ctx, img)
	} else if notFound(err) {
		_, err = s.images.Create(ctx, img)
	}
	if err != nil {
		return fmt.Errorf("record name %s: %w", r.name, err)
	}
	return nil
}

// keepUnnamed gives the image of r, which is about to lose that name, a name by digest unless it has another.
func (s *Store) keepUnnamed(ctx context.Context, r record) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.id == r.id && other.platform == r.platform && other.name != r.name {
			return nil
		}
	}
	d, err := s.document(ctx, r.manifest)
	if err != nil {
		return err
	}
	repository := r.repository()
	if repository == "" || !r.remote {
		repository = noName
	}
	r.name, r.demoted = repository+"@"+r.target.Digest.String(), true
	_, err = s.images.Create(ctx, r.image(d, s.opts.Snapshotter))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}
