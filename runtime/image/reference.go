package image

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Reference is a parsed and normalised image reference.
type Reference struct {
	named reference.Named // always with a tag or a digest
}

// ParseReference reads a reference the way docker does: nginx is docker.io/library/nginx:latest. A malformed one is
// ErrInvalid.
func ParseReference(s string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, &Error{Ref: s, Kind: ErrInvalid, Cause: err, Remedy: "write it as [registry/]name[:tag][@digest]"}
	}
	return Reference{reference.TagNameOnly(named)}, nil
}

// String is the normalised form: docker.io/library/nginx:latest.
func (r Reference) String() string { return r.named.String() }

// Familiar is the short form a user would type: nginx:latest.
func (r Reference) Familiar() string { return reference.FamiliarString(r.named) }

// Repository is the normalised name without tag and digest: docker.io/library/nginx.
func (r Reference) Repository() string { return r.named.Name() }

// Registry is the registry's name: docker.io.
func (r Reference) Registry() string { return reference.Domain(r.named) }

// Path is the repository within its registry: library/nginx.
func (r Reference) Path() string { return reference.Path(r.named) }

// Tag is empty when the reference has a digest only.
func (r Reference) Tag() string {
	if t, ok := r.named.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// Digest is empty when the reference has a tag only.
func (r Reference) Digest() digest.Digest {
	if d, ok := r.named.(reference.Digested); ok {
		return d.Digest()
	}
	return ""
}

// key is the name an image is recorded under. As with docker, a digest beats the tag beside it.
func (r Reference) key() string {
	if d := r.Digest(); d != "" {
		return r.Repository() + "@" + d.String()
	}
	return r.String()
}

// looksLikeID reports whether s may be an image ID: a digest, or a prefix of its hex part.
func looksLikeID(s string) bool {
	hex := strings.TrimPrefix(s, "sha256:")
	if len(hex) < 4 || len(hex) > 64 {
		return false
	}
	return strings.Trim(hex, "0123456789abcdef") == ""
}

// WithDigest is a reference that names an image with its digest beside its tag; a digest beats the tag. It is empty where
// there is no digest, or an ID in place of a name.
func WithDigest(ref, dgst string) (string, error) {
	if dgst == "" || strings.HasPrefix(ref, "sha256:") {
		return "", nil
	}
	name, _, _ := strings.Cut(ref, "@")
	pinned := name + "@" + dgst
	_, err := ParseReference(pinned)
	return pinned, err
}
