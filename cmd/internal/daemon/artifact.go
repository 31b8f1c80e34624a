package daemon

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/source"
	"github.com/stack-run/stack/runtime/image"
)

// artifacts opens OCI artifacts as sources, over the same mirrors and with the same logins as images.
func artifacts(images *image.Store) func(string, declare.Repository) source.Source {
	return func(dir string, r declare.Repository) source.Source {
		return source.NewArtifact(dir, r, registry{images})
	}
}

type registry struct{ images *image.Store }

func (r registry) Tags(ctx context.Context, repository string) ([]string, error) {
	return r.images.Tags(ctx, repository)
}

func (r registry) Manifest(ctx context.Context, reference string) (string, map[string]string, error) {
	a, err := r.images.Artifact(ctx, reference)
	if err != nil {
		return "", nil, err
	}
	return a.Digest, a.Annotations, nil
}

func (r registry) Archives(ctx context.Context, reference string, f func(io.Reader) error) error {
	a, err := r.images.Artifact(ctx, reference)
	if err != nil {
		return err
	}
	for _, layer := range a.Layers {
		err := r.images.ReadLayer(ctx, a, layer.Digest, func(content io.Reader) error {
			title := layer.Annotations["org.opencontainers.image.title"]
			if strings.Contains(layer.MediaType, "tar") || title == "" {
				return archive(content, f)
			}
			return single(title, layer.Size, content, f)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// archive unpacks what a tar stream is compressed with, as its first bytes tell.
func archive(content io.Reader, f func(io.Reader) error) error {
	buffered := bufio.NewReader(content)
	magic, _ := buffered.Peek(4) // a short one is no archive, as tar says
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(buffered)
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return err
		}
		defer r.Close()
		if err := f(r); err != nil {
			return err
		}
	default:
		return f(buffered)
	}
	_, err := io.Copy(io.Discard, buffered) // the digest is checked at the end
	return err
}

// single is one file as an archive.
func single(name string, size int64, content io.Reader, f func(io.Reader) error) error {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.Copy(t, content)
		}
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	err := f(r)
	r.CloseWithError(err)
	return err
}
