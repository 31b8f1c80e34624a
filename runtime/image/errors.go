package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// ErrLocked means another process has the store open.
var ErrLocked = errors.New("image store is in use by another process")

// Error is a failure concerning one image. errors.Is matches both its Kind, one of the package's sentinels, and its Cause.
type Error struct {
	Ref    string // the reference or ID as the caller gave it, normalised where possible
	Kind   error
	Cause  error  // may be nil
	Remedy string // what to do, may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "image %s: %v", e.Ref, e.Kind)
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if e.Remedy != "" {
		fmt.Fprintf(&b, "; %s", e.Remedy)
	}
	return b.String()
}

// Unwrap makes both the kind and the cause visible to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

var sentinels = []error{ErrNotFound, ErrUnauthorized, ErrUnavailable, ErrInvalid, ErrPlatform, ErrInUse, ErrNoSpace}

// fault is a classified error on its way up: its text is the cause's alone, since Error adds the kind's.
type fault struct {
	kind  error
	cause error
}

func (f *fault) Error() string   { return f.cause.Error() }
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

func faultf(kind error, format string, args ...any) error {
	return &fault{kind, fmt.Errorf(format, args...)}
}

// kindOf finds the sentinel an error belongs to, nil if none.
func kindOf(err error) error {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	if isNoSpace(err) {
		return ErrNoSpace
	}
	return nil
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// describe turns any error of an operation on ref into an *Error with a remedy. Errors of the caller's own context, and
// host failures that belong to no class (a failing disk), come back with the reference added only.
func describe(ctx context.Context, ref string, err error) error {
	if err == nil {
		return nil
	}
	if have := (*Error)(nil); errors.As(err, &have) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("image %s: %w", ref, context.Cause(ctx))
	}
	kind := kindOf(err)
	if kind == nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	return &Error{Ref: ref, Kind: kind, Cause: causeBeyond(kind, err), Remedy: remedies[kind]}
}

// causeBeyond drops a cause that says no more than its kind.
func causeBeyond(kind, err error) error {
	if err == kind {
		return nil
	}
	return err
}

var remedies = map[error]string{
	ErrNotFound:     "check the name and the tag, or load the image with `stack image load`",
	ErrUnauthorized: "log in with `docker login` (or write the registry's credentials to ~/.docker/config.json), and check the name",
	ErrUnavailable:  "check the network and the registry, then try again: what was fetched so far is kept",
	ErrInvalid:      "the image or its registry is broken; nothing of it was kept",
	ErrPlatform:     "choose another platform with `platform:`, or another image",
	ErrNoSpace:      "free space or remove unused images with `stack image rm`; nothing of this pull was kept",
}

// classifyRemote gives errors of a registry conversation their kind.
func classifyRemote(err error) error {
	if err == nil || kindOf(err) != nil {
		return err
	}
	if te := (*transport.Error)(nil); errors.As(err, &te) {
		return &fault{kindOfStatus(te), err}
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if ne := (net.Error)(nil); errors.As(err, &ne) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) {
		return &fault{ErrUnavailable, err}
	}
	return &fault{ErrUnavailable, err}
}

func kindOfStatus(te *transport.Error) error {
	for _, d := range te.Errors {
		switch d.Code {
		case transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, transport.BlobUnknownErrorCode,
			transport.ManifestBlobUnknownErrorCode:
			return ErrNotFound
		case transport.UnauthorizedErrorCode, transport.DeniedErrorCode:
			return ErrUnauthorized
		}
	}
	switch te.StatusCode {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	}
	return ErrUnavailable
}

// classifyUnpack gives errors of reading and applying a layer their kind: what is not the host's failure is the layer's.
func classifyUnpack(err error) error {
	if err == nil || kindOf(err) != nil {
		return err
	}
	for _, host := range []error{syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EPERM, syscall.EACCES,
		context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, host) {
			return err
		}
	}
	return &fault{ErrInvalid, err}
}

// notFound reports containerd's own not-found, for records the store looks up.
func notFound(err error) bool { return errdefs.IsNotFound(err) }

func isFailedPrecondition(err error) bool { return errdefs.IsFailedPrecondition(err) }
