package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobTries is how often a host is asked in a row for a blob without sending a byte of it.
const blobTries = 4

// ingestRef is the name a blob's unfinished download is kept under, found again by the next pull.
func ingestRef(desc ocispec.Descriptor) string { return "blob-" + desc.Digest.String() }

// fetch brings a blob into the content store, verified, unless it is there. Callers asking for the same one share the
// download. live, when not nil, also gets the bytes as they arrive, if this call is the one that downloads and starts from
// the first byte; they are verified only once fetch has returned nil.
func (s *Store) fetch(ctx context.Context, from []host, desc ocispec.Descriptor, live *liveSink, sub func(Progress)) error {
	if err := desc.Digest.Validate(); err != nil {
		return faultf(ErrInvalid, "digest %q: %w", desc.Digest, err)
	}
	_, err := s.blobs.do(ctx, s.base, desc.Digest.String(), sub, func(work context.Context, report func(Progress)) (struct{}, error) {
		lease, _ := leaseOf(ctx)
		return struct{}{}, s.download(withLease(work, lease), from, desc, live, report)
	})
	return err
}

func (s *Store) download(ctx context.Context, from []host, desc ocispec.Descriptor, live *liveSink, report func(Progress)) error {
	w, err := content.OpenWriter(ctx, s.content, content.WithRef(ingestRef(desc)), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("content store: %w", err)
	}
	d := &blobDownload{s: s, w: w, desc: desc, report: report}
	if err = d.position(); err == nil && d.offset == 0 {
		d.live = live.start()
	}
	d.resumed = d.offset > 0
	if err == nil {
		err = d.overHosts(ctx, from)
	}
	if err == nil {
		err = d.commit(ctx)
	}
	if d.live != nil {
		d.live.end(err)
	}
	w.Close()
	if errors.Is(err, ErrInvalid) || isNoSpace(err) {
		// Not worth resuming: false bytes, or bytes that take the space others need.
		err = errors.Join(err, ignoreNotFound(s.content.Abort(context.WithoutCancel(ctx), ingestRef(desc))))
	}
	return err
}

func ignoreNotFound(err error) error {
	if notFound(err) {
		return nil
	}
	return err
}

// blobDownload is one blob on its way in.
type blobDownload struct {
	s      *Store
	w      content.Writer
	desc   ocispec.Descriptor
	offset int64
	live   *pipe // nil when nobody follows
	report func(Progress)

	resumed bool // begins with bytes of an earlier download, which a power failure may have spoilt
}

// position finds where an earlier download stopped.
func (d *blobDownload) position() error {
	st, err := d.w.Status()
	if err != nil {
		return err
	}
	d.offset = st.Offset
	if d.offset > d.desc.Size {
		return d.restart()
	}
	return nil
}

func (d *blobDownload) restart() error {
	if d.live != nil {
		d.live.end(errAbandoned)
		d.live = nil
	}
	d.offset = 0
	return d.w.Truncate(0)
}

func (d *blobDownload) overHosts(ctx context.Context, from []host) error {
	var last error
	for _, h := range from {
		last = d.fromHost(ctx, h)
		if d.resumed && errors.Is(last, ErrInvalid) {
			d.resumed = false
			if err := d.restart(); err != nil {
				return err
			}
			last = d.fromHost(ctx, h)
		}
		if last == nil || ctx.Err() != nil {
			return last
		}
		if isNoSpace(last) {
			return last
		}
		if errors.Is(last, ErrInvalid) {
			// What this host sent was false; another one may be honest.
			if err := d.restart(); err != nil {
				return err
			}
		}
	}
	return last
}

// fromHost downloads from one host until the blob is whole, resuming where the connection broke, for as long as tries make
// progress.
func (d *blobDownload) fromHost(ctx context.Context, h host) error {
	for try := 1; ; try++ {
		before := d.offset
		err := d.attempt(ctx, h)
		if err == nil {
			return d.verify(h)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if isNoSpace(err) || errors.Is(err, ErrInvalid) {
			return err
		}
		err = classifyRemote(err)
		if d.offset > before {
			try = 1
		}
		if errors.Is(err, ErrUnauthorized) && try == 1 {
			d.s.registry.forget(h) // a token may have run out during a long download
		} else if !errors.Is(err, ErrUnavailable) || try >= blobTries || (isStalled(err) && try >= 2) || (h.mirror != "" && isRefused(err)) {
			return fmt.Errorf("layer %s from %v: %w", short(d.desc.Digest.String()), h, err)
		}
		d.s.opts.Logf("layer %s from %v: broke at %d of %d bytes, trying again: %v", short(d.desc.Digest.String()), h, d.offset, d.desc.Size, err)
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (d *blobDownload) verify(h host) error {
	if d.desc.Digest.Algorithm() == "sha256" && d.w.Digest() != d.desc.Digest {
		return faultf(ErrInvalid, "%v sent %s for layer %s", h, short(d.w.Digest().String()), short(d.desc.Digest.String()))
	}
	return nil
}

func (d *blobDownload) commit(ctx context.Context) error {
	err := d.w.Commit(ctx, d.desc.Size, d.desc.Digest)
	switch {
	case errdefs.IsAlreadyExists(err):
		return nil
	case errdefs.IsFailedPrecondition(err):
		return &fault{ErrInvalid, err}
	}
	return err
}

// attempt makes one request for what is missing and takes what comes.
func (d *blobDownload) attempt(ctx context.Context, h host) error {
	if d.offset == d.desc.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(2*d.s.opts.Stall, func() { cancel(errStalled) }) // for the handshake and the header
	defer silence.Stop()

	rt, err := d.s.registry.login(ctx, h)
	if err != nil {
		return stalledInstead(ctx, err)
	}
	resp, err := d.request(ctx, h, rt)
	if err != nil {
		return stalledInstead(ctx, err)
	}
	defer resp.Body.Close()
	body, err := d.body(resp)
	if err != nil {
		return err
	}
	return stalledInstead(ctx, d.take(body, silence, h))
}

// stalledInstead names the silence that made us cut a connection, rather than the cut.
func stalledInstead(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return faultf(ErrUnavailable, "%w", errStalled)
	}
	return err
}

func (d *blobDownload) request(ctx context.Context, h host, rt http.RoundTripper) (*http.Response, error) {
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", h.repo.Scheme(), h.repo.RegistryStr(), h.repo.RepositoryStr(), d.desc.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if d.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// body is what follows the bytes already there, whether the host honoured the range or sent all again.
func (d *blobDownload) body(resp *http.Response) (io.Reader, error) {
	skip := d.offset
	if resp.StatusCode == http.StatusPartialContent {
		start, err := rangeStart(resp.Header.Get("Content-Range"))
		if err != nil || start > d.offset {
			return nil, faultf(ErrUnavailable, "asked for bytes from %d, was sent %q", d.offset, resp.Header.Get("Content-Range"))
		}
		skip = d.offset - start
	}
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func rangeStart(header string) (int64, error) {
	span, ok := strings.CutPrefix(header, "bytes ")
	first, _, dash := strings.Cut(span, "-")
	if !ok || !dash {
		return 0, fmt.Errorf("content range %q", header)
	}
	return strconv.ParseInt(first, 10, 64)
}

// take copies body into the content store and to whoever follows live. Only the time spent waiting for the network counts
// as silence.
func (d *blobDownload) take(body io.Reader, silence *time.Timer, h host) error {
	buf := make([]byte, 256<<10)
	for d.offset < d.desc.Size {
		silence.Reset(d.s.opts.Stall)
		n, rerr := body.Read(buf[:min(int64(len(buf)), d.desc.Size-d.offset)])
		silence.Stop()
		if n > 0 {
			if _, err := d.w.Write(buf[:n]); err != nil {
				return fmt.Errorf("content store: %w", err)
			}
			d.offset += int64(n)
			if d.live != nil {
				d.live.Write(buf[:n]) // a follower that left takes nothing from the download
			}
			d.report(Progress{Layer: d.desc.Digest.String(), Phase: "downloading", Done: d.offset, Total: d.desc.Size})
		}
		if rerr == io.EOF && d.offset < d.desc.Size {
			return faultf(ErrUnavailable, "%w", io.ErrUnexpectedEOF)
		}
		if rerr != nil && rerr != io.EOF {
			return rerr
		}
	}
	// One byte more would make the size in the manifest a lie.
	silence.Reset(d.s.opts.Stall)
	if n, _ := body.Read(buf[:1]); n > 0 {
		return faultf(ErrInvalid, "%v sent more than the %d bytes of layer %s", h, d.desc.Size, short(d.desc.Digest.String()))
	}
	return nil
}

// short is a digest as people read it.
func short(digest string) string {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) < 12 {
		return digest
	}
	return algorithm + ":" + hex[:12]
}
