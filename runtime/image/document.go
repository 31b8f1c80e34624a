package image

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// document is a manifest with its config, parsed and checked.
type document struct {
	desc      ocispec.Descriptor // of the manifest
	manifest  ocispec.Manifest
	rawConfig []byte
	config    imageConfig
	chain     []layer
	size      int64
}

// imageConfig is the part of an image config that Stack uses.
type imageConfig struct {
	Created *time.Time `json:"created"`
	ocispec.Platform
	Config Config         `json:"config"`
	RootFS ocispec.RootFS `json:"rootfs"`
}

// parseIndex reads an index or manifest list.
func parseIndex(body []byte) (ocispec.Index, error) {
	var idx ocispec.Index
	if err := json.Unmarshal(body, &idx); err != nil {
		return idx, faultf(ErrInvalid, "malformed index: %w", err)
	}
	return idx, nil
}

// parseManifest reads an image manifest and refuses what is none.
func parseManifest(desc ocispec.Descriptor, body []byte, limits Limits) (*document, error) {
	d := &document{desc: desc}
	if err := json.Unmarshal(body, &d.manifest); err != nil {
		return nil, faultf(ErrInvalid, "malformed manifest: %w", err)
	}
	if d.manifest.SchemaVersion == 1 {
		return nil, faultf(ErrInvalid, "its manifest has the old schema 1, which is no longer supported: push it again with a current tool")
	}
	if t := d.manifest.Config.MediaType; t != "" && !images.IsConfigType(t) && t != "application/octet-stream" {
		return nil, faultf(ErrInvalid, "not a container image but %s", t)
	}
	if d.manifest.Config.Digest == "" {
		return nil, faultf(ErrInvalid, "its manifest names no config")
	}
	if len(d.manifest.Layers) > limits.Layers {
		return nil, faultf(ErrInvalid, "%d layers, at most %d are allowed", len(d.manifest.Layers), limits.Layers)
	}
	d.size = d.manifest.Config.Size
	for _, desc := range append([]ocispec.Descriptor{d.manifest.Config}, d.manifest.Layers...) {
		if err := desc.Digest.Validate(); err != nil || desc.Size < 0 {
			return nil, faultf(ErrInvalid, "its manifest names %q of %d bytes", desc.Digest, desc.Size)
		}
	}
	for _, desc := range d.manifest.Layers {
		d.size += desc.Size
	}
	if d.manifest.Config.Size > limits.ConfigBytes {
		return nil, faultf(ErrInvalid, "config of %d bytes", d.manifest.Config.Size)
	}
	return d, nil
}

// setConfig completes a document with its config.
func (d *document) setConfig(body []byte) error {
	d.rawConfig = body
	if err := json.Unmarshal(body, &d.config); err != nil {
		return faultf(ErrInvalid, "malformed config: %w", err)
	}
	diffIDs := d.config.RootFS.DiffIDs
	if len(diffIDs) != len(d.manifest.Layers) {
		return faultf(ErrInvalid, "%d layers in the manifest, %d in the config", len(d.manifest.Layers), len(diffIDs))
	}
	for _, id := range diffIDs {
		if err := id.Validate(); err != nil {
			return faultf(ErrInvalid, "diff ID %q: %w", id, err)
		}
	}
	d.chain = chainOf(d.manifest.Layers, diffIDs)
	return nil
}

// platform is what the config says, or fallback where it says nothing.
func (d *document) platform(fallback ocispec.Platform) ocispec.Platform {
	if d.config.OS == "" || d.config.Architecture == "" {
		return fallback
	}
	return d.config.Platform
}

// top is the name of the topmost snapshot, empty for an image without layers.
func (d *document) top() string {
	if len(d.chain) == 0 {
		return ""
	}
	return d.chain[len(d.chain)-1].chain
}

// document reads a manifest and its config from the content store.
func (s *Store) document(ctx context.Context, manifest digest.Digest) (*document, error) {
	if d, ok := s.documents.Load(manifest); ok {
		return d.(*document), nil
	}
	desc := ocispec.Descriptor{Digest: manifest}
	body, err := s.readSmall(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	desc.Size = int64(len(body))
	d, err := parseManifest(desc, body, s.opts.Limits)
	if err != nil {
		return nil, err
	}
	config, err := s.readSmall(ctx, d.manifest.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := d.setConfig(config); err != nil {
		return nil, err
	}
	s.documents.Store(manifest, d)
	return d, nil
}

// readSmall reads a whole manifest or config from the content store.
func (s *Store) readSmall(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	info, err := s.content.Info(ctx, desc.Digest)
	if notFound(err) {
		return nil, faultf(ErrNotFound, "%s is not in the store", short(desc.Digest.String()))
	}
	if err != nil {
		return nil, err
	}
	if info.Size > s.opts.Limits.ConfigBytes {
		return nil, faultf(ErrInvalid, "document of %d bytes", info.Size)
	}
	desc.Size = info.Size
	return content.ReadBlob(ctx, s.content, desc)
}
