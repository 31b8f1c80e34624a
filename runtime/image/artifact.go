package image

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Artifact is the manifest of something in a registry that need not be an image: its layers are files or archives.
type Artifact struct {
	Digest      string
	Annotations map[string]string
	Layers      []ocispec.Descriptor

	ref   Reference
	hosts []host
}

// Tags lists the tags of a repository.
func (s *Store) Tags(ctx context.Context, repository string) ([]string, error) {
	ref, err := ParseReference(repository)
	if err != nil {
		return nil, err
	}
	hosts, err := s.registry.hosts(ref)
	if err != nil {
		return nil, err
	}
	var tags []string
	err = s.registry.overHosts(ctx, hosts, func(ctx context.Context, h host, rt http.RoundTripper) error {
		tags, err = remote.List(h.repo, remote.WithContext(ctx), remote.WithTransport(rt))
		return err
	})
	return tags, describe(ctx, repository, err)
}

// Artifact fetches a manifest. Nothing is kept of it.
func (s *Store) Artifact(ctx context.Context, reference string) (*Artifact, error) {
	ref, err := ParseReference(reference)
	if err != nil {
		return nil, err
	}
	hosts, err := s.registry.hosts(ref)
	if err != nil {
		return nil, err
	}
	m, err := s.registry.manifest(ctx, hosts, ref)
	if err != nil {
		return nil, describe(ctx, reference, err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(m.body, &manifest); err != nil || len(manifest.Layers) == 0 {
		return nil, describe(ctx, reference, faultf(ErrInvalid, "no manifest with layers: %s", m.desc.MediaType))
	}
	return &Artifact{Digest: m.desc.Digest.String(), Annotations: manifest.Annotations, Layers: manifest.Layers, ref: ref, hosts: m.from}, nil
}

// ReadLayer hands a layer's bytes, as they are in the registry, to f; the digest is checked by the time that the reader ends.
func (s *Store) ReadLayer(ctx context.Context, a *Artifact, layer digest.Digest, f func(io.Reader) error) error {
	err := s.registry.overHosts(ctx, a.hosts, func(ctx context.Context, h host, rt http.RoundTripper) error {
		l, err := remote.Layer(h.repo.Digest(layer.String()), remote.WithContext(ctx), remote.WithTransport(rt))
		if err != nil {
			return err
		}
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		defer r.Close()
		return f(r)
	})
	return describe(ctx, strings.TrimSpace(a.ref.String()), err)
}
