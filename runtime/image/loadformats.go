package image

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerImage is one element of manifest.json in what `docker save` writes.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// isDockerArchive reports whether there is a manifest.json of docker's; other files of that name are a filesystem's.
func (l *loader) isDockerArchive() bool {
	list, err := l.dockerImages()
	return err == nil && len(list) > 0 && list[0].Config != ""
}

func (l *loader) dockerImages() (list []dockerImage, err error) {
	body, err := l.archive.read("manifest.json", l.s.opts.Limits.ConfigBytes)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, faultf(ErrInvalid, "manifest.json: %w", err)
	}
	return list, nil
}

func (l *loader) dockerArchive(ctx context.Context) ([]found, error) {
	list, err := l.dockerImages()
	if err != nil {
		return nil, err
	}
	var all []found
	for _, img := range list {
		f, err := l.dockerImage(ctx, img)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (l *loader) dockerImage(ctx context.Context, img dockerImage) (found, error) {
	if len(img.Layers) > l.s.opts.Limits.Layers {
		return found{}, faultf(ErrInvalid, "%d layers, at most %d are allowed", len(img.Layers), l.s.opts.Limits.Layers)
	}
	config, err := l.archive.read(img.Config, l.s.opts.Limits.ConfigBytes)
	if err != nil {
		return found{}, err
	}
	var layers []ocispec.Descriptor
	for _, name := range img.Layers {
		r, err := l.archive.open(name)
		if err != nil {
			return found{}, err
		}
		desc, err := l.addBlob(ctx, r, layerType(r))
		if err != nil {
			return found{}, err
		}
		layers = append(layers, desc)
	}
	f, err := l.compose(ctx, config, layers, images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2Config)
	f.names = normalised(img.RepoTags)
	return f, err
}

// layerType tells how a layer is packed.
func layerType(r io.ReaderAt) string {
	magic := make([]byte, 4)
	n, _ := r.ReadAt(magic, 0) // a shorter layer is packed with nothing
	switch magic = magic[:n]; {
	case bytes.HasPrefix(magic, gzipMagic):
		return images.MediaTypeDockerSchema2LayerGzip
	case bytes.HasPrefix(magic, zstdMagic):
		return images.MediaTypeDockerSchema2LayerZstd
	}
	return images.MediaTypeDockerSchema2Layer
}

// ociLayout loads the images index.json names; those without a name are taken as the platforms of one image.
func (l *loader) ociLayout(ctx context.Context) ([]found, error) {
	body, err := l.archive.read("index.json", l.s.opts.Limits.ConfigBytes)
	if err != nil {
		return nil, err
	}
	idx, err := parseIndex(body)
	if err != nil {
		return nil, err
	}
	var all []found
	var unnamed []ocispec.Descriptor
	byDigest := map[string]int{}
	for _, desc := range idx.Manifests {
		names := l.layoutNames(desc)
		if len(names) == 0 {
			unnamed = append(unnamed, desc)
			continue
		}
		// One image under several names is listed once for each.
		if i, ok := byDigest[desc.Digest.String()]; ok {
			all[i].names = append(all[i].names, names...)
			continue
		}
		f, err := l.layoutImage(ctx, desc)
		if err != nil {
			return nil, err
		}
		f.names = names
		byDigest[desc.Digest.String()] = len(all)
		all = append(all, f)
	}
	if len(all) > 0 {
		return all, nil
	}
	desc, err := l.chooseUnnamed(unnamed)
	if err != nil {
		return nil, err
	}
	f, err := l.layoutImage(ctx, desc)
	if err == nil {
		f.names = l.dockerNames()
	}
	return []found{f}, err
}

func (l *loader) chooseUnnamed(list []ocispec.Descriptor) (ocispec.Descriptor, error) {
	switch len(list) {
	case 0:
		return ocispec.Descriptor{}, faultf(ErrInvalid, "its index.json names no image")
	case 1:
		return list[0], nil
	}
	return choose(list, l.want)
}

// layoutNames are the names tools note in index.json: containerd and docker the whole, others the tag or what they like.
func (l *loader) layoutNames(desc ocispec.Descriptor) []string {
	if name := desc.Annotations[images.AnnotationImageName]; name != "" {
		return normalised([]string{name})
	}
	if name := desc.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(name, ":/") {
		return normalised([]string{name})
	}
	return nil
}

// dockerNames are the names in the manifest.json newer dockers add to an OCI layout of one image.
func (l *loader) dockerNames() []string {
	list, err := l.dockerImages()
	if err != nil || len(list) != 1 {
		return nil
	}
	return normalised(list[0].RepoTags)
}

func (l *loader) layoutImage(ctx context.Context, target ocispec.Descriptor) (found, error) {
	desc, body, err := l.layoutDocument(ctx, target)
	if err != nil {
		return found{}, err
	}
	if images.IsIndexType(desc.MediaType) {
		idx, err := parseIndex(body)
		if err != nil {
			return found{}, err
		}
		if desc, err = choose(idx.Manifests, l.want); err != nil {
			return found{}, err
		}
		if desc, body, err = l.layoutDocument(ctx, desc); err != nil {
			return found{}, err
		}
	}
	doc, err := parseManifest(desc, body, l.s.opts.Limits)
	if err != nil {
		return found{}, err
	}
	_, config, err := l.layoutDocument(ctx, doc.manifest.Config)
	if err != nil {
		return found{}, err
	}
	if err := doc.setConfig(config); err != nil {
		return found{}, err
	}
	for _, layer := range doc.manifest.Layers {
		r, err := l.archive.open(layoutPath(layer))
		if err != nil {
			return found{}, err
		}
		if err := l.copyBlob(ctx, r, layer); err != nil {
			return found{}, err
		}
	}
	return found{target: target, doc: doc}, nil
}

// layoutDocument copies an index, manifest or config into the content store and returns it.
func (l *loader) layoutDocument(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return desc, nil, faultf(ErrInvalid, "digest %q: %w", desc.Digest, err)
	}
	body, err := l.archive.read(layoutPath(desc), l.s.opts.Limits.ConfigBytes)
	if err != nil {
		return desc, nil, err
	}
	return desc, body, l.s.keepSmall(ctx, desc, body)
}

func layoutPath(desc ocispec.Descriptor) string {
	return "blobs/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded()
}
