package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	testimages "github.com/stack-run/stack/e2e/images"
)

const (
	registry   = "127.0.0.1:5000" // on every contender's machine
	smallImage = registry + "/library/busybox:latest"
	bigImage   = registry + "/bench/big:latest"

	bigLayers     = 8
	filesPerLayer = 1500
	fileSize      = 42 << 10 // of which 40 % is random, so that a layer packs to 25 MB
)

// images are the registry storages that the contenders pull from.
type images struct {
	small, big string
	bigSize    int64 // of the layers as they travel
}

func makeImages(ctx context.Context) (*images, error) {
	small, err := testimages.Storage(ctx)
	if err != nil {
		return nil, err
	}
	big, err := os.MkdirTemp("", "stack-bench-")
	if err != nil {
		return nil, err
	}
	i := &images{small: small, big: big}
	if err := i.pushBig(ctx); err != nil {
		i.remove()
		return nil, err
	}
	return i, nil
}

// readBig reads the big image's storage, so that its registry finds it in memory.
func (i *images) readBig() error {
	return filepath.WalkDir(i.big, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	})
}

func (i *images) remove() { os.RemoveAll(i.big) }

func (i *images) pushBig(ctx context.Context) error {
	running, err := testimages.Start(ctx, testimages.Registry{Storage: i.big})
	if err != nil {
		return err
	}
	defer running.Stop()
	var layers []v1.Layer
	for n := range bigLayers {
		content := layerTar(n)
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
			tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
		if err != nil {
			return err
		}
		size, err := layer.Size()
		if err != nil {
			return err
		}
		i.bigSize += size
		layers = append(layers, layer)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	ref, err := name.ParseReference(running.Addr+"/bench/big:latest", name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, img, remote.WithContext(ctx))
}

// layerTar is the archive of the n-th layer: many small files, partly random, the same in each run.
func layerTar(n int) []byte {
	random := rand.NewChaCha8([32]byte{byte(n)})
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	content := bytes.Repeat([]byte("the same words again and again, "), fileSize/32)
	for i := range filesPerLayer {
		random.Read(content[:fileSize*2/5])
		// to a buffer: no error possible but a wrong header
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("layer%d/%d/%d", n, i%30, i), Mode: 0o644, Size: int64(len(content))}); err != nil {
			panic(err)
		}
		w.Write(content)
	}
	w.Close()
	return out.Bytes()
}
