package bundle

import (
	"cmp"
	"fmt"
	"syscall"

	"github.com/moby/sys/signal"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stack-run/stack/spec"
)

// DefaultStopSignal asks a container to end where neither the file nor the image names a signal.
const DefaultStopSignal = syscall.SIGTERM

// ParseSignal reads "SIGTERM", "term", "15" or "SIGRTMIN+3"; anything else is ErrInvalid.
func ParseSignal(name string) (syscall.Signal, error) {
	s, err := signal.ParseSignal(name)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !signal.ValidSignalForPlatform(s) {
		return 0, fmt.Errorf("%w: there is no signal %s", ErrInvalid, name)
	}
	return s, nil
}

// StopSignal is the signal that asks the container to end.
func StopSignal(s *spec.Service, image ocispec.ImageConfig) (syscall.Signal, error) {
	name := cmp.Or(s.StopSignal, image.StopSignal)
	if name == "" {
		return DefaultStopSignal, nil
	}
	sig, err := ParseSignal(name)
	if err != nil {
		return 0, &AttributeError{"stop_signal", err}
	}
	return sig, nil
}
