package images

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestEveryImageIsServedUnderItsUsualNames(t *testing.T) {
	storage, err := Storage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	registry, err := Start(t.Context(), Registry{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Stop()
	for _, image := range all {
		for _, tag := range image.tags {
			ref, err := name.ParseReference(registry.Addr+"/library/"+tag, name.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			img, err := remote.Image(ref)
			if err != nil {
				t.Errorf("%s: %v", tag, err)
				continue
			}
			size, err := img.Size()
			t.Logf("%s: manifest %d bytes, %v", tag, size, err)
		}
	}
}
