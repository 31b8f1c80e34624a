package image

import (
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// parsePlatform reads os/arch[/variant]; empty is this machine's.
func parsePlatform(s string) (ocispec.Platform, error) {
	if s == "" {
		return platforms.DefaultSpec(), nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return ocispec.Platform{}, faultf(ErrPlatform, "platform %q: %w", s, err)
	}
	return platforms.Normalize(p), nil
}

// matcher prefers the platform itself and accepts what runs on it (an older variant; 386 on amd64 is not accepted, as a
// missing platform should be seen).
func matcher(p ocispec.Platform) platforms.MatchComparer { return platforms.OnlyStrict(p) }

func formatPlatform(p ocispec.Platform) string { return platforms.Format(platforms.Normalize(p)) }
