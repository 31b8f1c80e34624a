package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// apply unpacks a layer's stream into its stage and verifies the result against the diff ID. Decompressing runs beside the
// writing of files.
func (s *Store) apply(ctx context.Context, l layer, st *stage, packed io.Reader) error {
	if err := l.diffID.Validate(); err != nil {
		return faultf(ErrInvalid, "diff ID %q: %w", l.diffID, err)
	}
	tarball, err := decompress(packed)
	if err != nil {
		return classifyUnpack(fmt.Errorf("layer %s: %w", short(l.desc.Digest.String()), err))
	}
	p := newPipe()
	defer p.leave()
	go func() {
		defer tarball.Close()
		_, err := io.CopyBuffer(writerOnly{p}, tarball, make([]byte, chunkSize))
		p.end(err)
	}()
	st.tree = newLayerTree(st.dir, s.overlay, l.parent == "", s.opts.Limits)
	digester := l.diffID.Algorithm().Digester()
	err = st.tree.apply(ctx, io.TeeReader(&boundReader{r: p, left: streamLimit(s.opts.Limits)}, digester.Hash()))
	if err == nil && digester.Digest() != l.diffID {
		err = faultf(ErrInvalid, "unpacks to %s, the image says %s", short(digester.Digest().String()), short(l.diffID.String()))
	}
	if err != nil {
		return classifyUnpack(fmt.Errorf("layer %s: %w", short(l.desc.Digest.String()), err))
	}
	return nil
}

// writerOnly hides everything but Write, so that io.Copy uses the buffer it was given.
type writerOnly struct{ io.Writer }

// apply reads the tar to its very end, past the archive's own.
func (t *layerTree) apply(ctx context.Context, r io.Reader) error {
	opts := []archive.ApplyOpt{archive.WithFilter(t.admit)}
	if t.apart {
		opts = append(opts, archive.WithConvertWhiteout(t.whiteout))
	}
	if _, err := archive.Apply(ctx, t.dir, r, opts...); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// streamLimit bounds a layer's unpacked tar: its content and a generous header for each entry.
func streamLimit(l Limits) int64 { return l.LayerBytes + int64(l.LayerEntries)*4096 }

// boundReader fails rather than pass on more than left bytes, whatever a small compressed stream expands to.
type boundReader struct {
	r    io.Reader
	left int64
}

func (b *boundReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, faultf(ErrInvalid, "unpacks to more than is allowed")
	}
	return n, err
}

var (
	gzipMagic  = []byte{0x1f, 0x8b}
	zstdMagic  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	bzip2Magic = []byte{'B', 'Z', 'h'}
)

// zstdMemory bounds what a zstd stream may make the decoder hold.
const zstdMemory = 256 << 20

// decompress looks at the stream rather than at its media type, which builders get wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	magic, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		return gzip.NewReader(br)
	case bytes.HasPrefix(magic, zstdMagic):
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(zstdMemory), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, xzMagic), bytes.HasPrefix(magic, bzip2Magic):
		return nil, faultf(ErrInvalid, "packed with xz or bzip2: unpack it first, or pack it with gzip or zstd")
	}
	return io.NopCloser(br), nil
}

// verifyDigest is for small documents.
func verifyDigest(body []byte, want digest.Digest) error {
	if err := want.Validate(); err != nil {
		return faultf(ErrInvalid, "digest %q: %w", want, err)
	}
	if got := want.Algorithm().FromBytes(body); got != want {
		return faultf(ErrInvalid, "content is %s, should be %s", short(got.String()), short(want.String()))
	}
	return nil
}

// headerBytes is what an entry takes beyond its content, for the count of bytes.
const headerBytes = 512

func entryBytes(h *tar.Header) int64 { return max(h.Size, 0) + headerBytes }
