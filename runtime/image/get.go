package image

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Get finds an image in the store by reference, ID, or a prefix of an ID of at least four digits. platform empty is this
// machine's if there is one under the name, else any. ErrNotFound if there is none.
func (s *Store) Get(ctx context.Context, refOrID, platform string) (Image, error) {
	ctx = s.ctx(ctx)
	img, err := s.get(ctx, refOrID, platform)
	return img, describe(ctx, refOrID, err)
}

func (s *Store) get(ctx context.Context, refOrID, platform string) (Image, error) {
	found, all, err := s.find(ctx, refOrID, platform)
	if err != nil {
		return Image{}, err
	}
	return s.assemble(ctx, found[0].id, found[0].platform, all)
}

// find lists the records refOrID means, the preferred first, and all records there are.
func (s *Store) find(ctx context.Context, refOrID, platform string) (found, all []record, err error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return nil, nil, err
	}
	if all, err = s.records(ctx); err != nil {
		return nil, nil, err
	}
	found = match(all, refOrID)
	if len(found) == 0 {
		return nil, nil, ErrNotFound
	}
	if ids := distinctIDs(found); ids > 1 && isIDPrefix(refOrID, found) {
		return nil, nil, faultf(ErrInvalid, "the ID fits %d images: give more of it", ids)
	}
	fits := matcher(want)
	if platform != "" {
		have := platformsOf(found)
		found = slices.DeleteFunc(found, func(r record) bool {
			p, err := parsePlatform(r.platform)
			return err != nil || !fits.Match(p)
		})
		if len(found) == 0 {
			return nil, nil, faultf(ErrNotFound, "here for %s only", strings.Join(have, ", "))
		}
	}
	slices.SortStableFunc(found, func(a, b record) int {
		pa, errA := parsePlatform(a.platform)
		pb, errB := parsePlatform(b.platform)
		switch {
		case errA == nil && errB == nil && fits.Match(pa) && (!fits.Match(pb) || fits.Less(pa, pb)):
			return -1
		case errA == nil && errB == nil && fits.Match(pb):
			return 1
		}
		return b.pulled.Compare(a.pulled)
	})
	return found, all, nil
}

// match finds records the way docker does: a whole ID, then a name, then part of an ID.
func match(all []record, refOrID string) []record {
	if strings.HasPrefix(refOrID, "sha256:") && len(refOrID) == len("sha256:")+64 {
		return filter(all, func(r record) bool {
			return r.id == refOrID || r.target.Digest.String() == refOrID || r.manifest.String() == refOrID
		})
	}
	if ref, err := ParseReference(refOrID); err == nil {
		if d := ref.Digest(); d != "" {
			return filter(all, func(r record) bool {
				return (r.target.Digest == d || r.manifest == d) && r.repository() == ref.Repository()
			})
		}
		if found := filter(all, func(r record) bool { return r.name == ref.String() }); len(found) > 0 {
			return found
		}
	}
	if looksLikeID(refOrID) {
		prefix := "sha256:" + strings.TrimPrefix(refOrID, "sha256:")
		return filter(all, func(r record) bool { return strings.HasPrefix(r.id, prefix) })
	}
	return nil
}

// isIDPrefix reports whether found was matched by ID rather than by name.
func isIDPrefix(refOrID string, found []record) bool {
	return looksLikeID(refOrID) && strings.HasPrefix(found[0].id, "sha256:"+strings.TrimPrefix(refOrID, "sha256:"))
}

func filter(all []record, keep func(record) bool) []record {
	var found []record
	for _, r := range all {
		if keep(r) {
			found = append(found, r)
		}
	}
	return found
}

func distinctIDs(records []record) int {
	ids := map[string]bool{}
	for _, r := range records {
		ids[r.id] = true
	}
	return len(ids)
}

func platformsOf(records []record) []string {
	var list []string
	for _, r := range records {
		if !slices.Contains(list, r.platform) {
			list = append(list, r.platform)
		}
	}
	return list
}

// assemble puts one image together from its records and documents.
func (s *Store) assemble(ctx context.Context, id, platform string, all []record) (Image, error) {
	img := Image{ID: id, Platform: platform, Names: []string{}}
	var from record
	for _, r := range all {
		if r.id != id || r.platform != platform {
			continue
		}
		if from.id == "" || r.pulled.After(from.pulled) {
			from = r
		}
		if r.isTag() {
			img.Names = append(img.Names, r.name)
		}
		if repo := r.repository(); repo != "" && r.remote {
			img.RepoDigests = append(img.RepoDigests, repo+"@"+r.target.Digest.String())
		}
	}
	slices.Sort(img.RepoDigests)
	img.RepoDigests = slices.Compact(img.RepoDigests)
	slices.Sort(img.Names)
	d, err := s.document(ctx, from.manifest)
	if err != nil {
		return Image{}, err
	}
	img.Digest, img.Pulled, img.Size, img.ChainID = from.target.Digest.String(), from.pulled, d.size, d.top()
	img.Config = d.config.Config
	img.Created = created(d)
	for _, l := range d.chain {
		img.Layers = append(img.Layers, l.diffID.String())
	}
	return img, nil
}

func created(d *document) time.Time {
	if d.config.Created == nil {
		return time.Time{}
	}
	return d.config.Created.UTC()
}

// List lists all images, the latest pulled first.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	ctx = s.ctx(ctx)
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	list := []Image{}
	seen := map[string]bool{}
	for _, r := range all {
		if key := recordKey(r.id, r.platform); !seen[key] {
			seen[key] = true
			img, err := s.assemble(ctx, r.id, r.platform, all)
			if err != nil {
				// One damaged image must not hide the others; asking for it by name says what is wrong.
				s.opts.Logf("image %s is left out: %v", r.name, err)
				continue
			}
			list = append(list, img)
		}
	}
	slices.SortFunc(list, func(a, b Image) int {
		if c := b.Pulled.Compare(a.Pulled); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// Inspect returns an image with its documents and users.
func (s *Store) Inspect(ctx context.Context, refOrID string) (Details, error) {
	ctx = s.ctx(ctx)
	details, err := s.inspect(ctx, refOrID)
	return details, describe(ctx, refOrID, err)
}

func (s *Store) inspect(ctx context.Context, refOrID string) (Details, error) {
	found, all, err := s.find(ctx, refOrID, "")
	if err != nil {
		return Details{}, err
	}
	img, err := s.assemble(ctx, found[0].id, found[0].platform, all)
	if err != nil {
		return Details{}, err
	}
	d, err := s.document(ctx, found[0].manifest)
	if err != nil {
		return Details{}, err
	}
	body, err := s.readSmall(ctx, d.desc)
	if err != nil {
		return Details{}, err
	}
	return Details{Image: img, Manifest: body, RawConfig: d.rawConfig, UsedBy: s.opts.InUse(img.ID)}, nil
}
