package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
)

// Compare lists what differs between two desired states of a stack, with their images where both are known, and the contents
// of configs as text.
func (r *Reconciler) Compare(from, to Revision) []spec.Difference {
	all := spec.Compare(from.Stack, to.Stack)
	for i, d := range all {
		address, err := spec.ParseAddress(d.Address)
		if err != nil {
			continue
		}
		for j, ch := range d.Changes {
			if address.Kind == spec.KindConfig && ch.Path == "content" && d.Verb == spec.Changed {
				old, new := from.Stack.Configs[address.Name], to.Stack.Configs[address.Name]
				all[i].Changes[j].Text = r.contentDiff(to.Stack.Name, address.Name, old.Digest, new.Digest, new)
			}
		}
	}
	return withImages(all, from, to)
}

// withImages adds to services that have the same image by name what the name stood for.
func withImages(all []spec.Difference, from, to Revision) []spec.Difference {
	for _, service := range slices.Sorted(maps.Keys(to.Images)) {
		old, new := from.Images[service], to.Images[service]
		if old.ID == "" || old.ID == new.ID || old.Image != new.Image {
			continue
		}
		change := spec.Change{Path: "image (" + new.Image + ")", Old: fmt.Sprintf("%q", cmp.Or(old.Digest, old.ID)), New: fmt.Sprintf("%q", cmp.Or(new.Digest, new.ID))}
		address := spec.ServiceAddress(service).String()
		i := slices.IndexFunc(all, func(d spec.Difference) bool { return d.Address == address })
		if i >= 0 {
			all[i].Changes = append(all[i].Changes, change)
		} else {
			all = append(all, spec.Difference{Address: address, Verb: spec.Changed, Changes: []spec.Change{change}})
		}
	}
	return all
}

// ImagesOf are the images that a desired state would have now, by service; those that are not in the store are left out.
func (r *Reconciler) ImagesOf(ctx context.Context, desired *spec.Stack) (map[string]PinImage, error) {
	images := map[string]PinImage{}
	for name, svc := range desired.Services {
		if svc.Image == "" || svc.Replicas == 0 {
			continue
		}
		img, err := r.images.Get(ctx, svc.Image, svc.Platform)
		if errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrPlatform) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		images[name] = PinImage{Image: svc.Image, ID: img.ID, Digest: img.Digest}
	}
	return images, nil
}
