package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Tag gives an image another name. A name that points elsewhere is moved; the image it pointed to stays, by its digest.
func (s *Store) Tag(ctx context.Context, src, dst string) error {
	ctx = s.ctx(ctx)
	ref, err := ParseReference(dst)
	if err != nil {
		return err
	}
	if ref.Digest() != "" {
		return &Error{Ref: dst, Kind: ErrInvalid, Remedy: "a name given to an image has a tag, not a digest"}
	}
	found, _, err := s.find(ctx, src, "")
	if err != nil {
		return describe(ctx, src, err)
	}
	s.garbage.hold()
	defer s.release()
	for _, r := range found {
		if r.id != found[0].id {
			continue
		}
		d, err := s.document(ctx, r.manifest)
		if err != nil {
			return describe(ctx, src, err)
		}
		r.name, r.remote, r.demoted, r.pulled = ref.String(), false, false, time.Now()
		if err := s.setName(ctx, r, d); err != nil {
			return describe(ctx, dst, err)
		}
	}
	return nil
}

// Remove takes a name from an image, and removes the image with its last name; given an ID it removes all names. As docker
// does, it refuses (ErrInUse) to remove an image that containers use, and, by ID, one with names in several repositories;
// with force it removes the names, and keeps a used image nameless until it is unused.
//
// Content and layers nothing else needs are removed before it returns, or after pulls under way.
func (s *Store) Remove(ctx context.Context, refOrID string, force bool) (RemoveReport, error) {
	ctx = s.ctx(ctx)
	report, err := s.remove(ctx, refOrID, force)
	return report, describe(ctx, refOrID, err)
}

func (s *Store) remove(ctx context.Context, refOrID string, force bool) (RemoveReport, error) {
	var report RemoveReport
	found, all, err := s.find(ctx, refOrID, "")
	if err != nil {
		return report, err
	}
	byID := isIDPrefix(refOrID, found) && !slices.ContainsFunc(found, func(r record) bool { return names(r, refOrID) })
	if repos := repositories(found); byID && len(repos) > 1 && !force {
		return report, faultf(ErrInUse, "it has names in several repositories (%s): remove the names, or force", strings.Join(repos, ", "))
	}
	for _, id := range idsOf(found) {
		err := s.removeNames(ctx, id, filter(found, func(r record) bool { return r.id == id }), all, force, &report)
		if err != nil {
			return report, err
		}
	}
	return report, s.collect(ctx)
}

// names reports whether refOrID is r's name rather than its ID.
func names(r record, refOrID string) bool {
	ref, err := ParseReference(refOrID)
	return err == nil && r.name == ref.String()
}

// removeNames takes the given names from one image.
func (s *Store) removeNames(ctx context.Context, id string, going, all []record, force bool, report *RemoveReport) error {
	stays := slices.ContainsFunc(all, func(r record) bool {
		return r.id == id && !slices.ContainsFunc(going, func(g record) bool { return g.name == r.name && g.platform == r.platform })
	})
	var users []string
	if !stays {
		users = s.opts.InUse(id)
	}
	if len(users) > 0 && !force {
		return &fault{ErrInUse, fmt.Errorf("by %s: remove what uses it first, or force to remove its names only", strings.Join(users, ", "))}
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	for _, r := range going {
		if len(users) > 0 {
			if !r.isTag() {
				continue
			}
			if err := s.keepUnnamed(ctx, r); err != nil {
				return err
			}
		}
		if err := ignoreNotFound(s.images.Delete(ctx, recordKey(r.name, r.platform))); err != nil {
			return fmt.Errorf("remove name %s: %w", r.name, err)
		}
		s.names.changed() // the next round must see that this name is gone
		if !strings.HasPrefix(r.name, noName) {
			report.Untagged = append(report.Untagged, r.name)
		}
		if !stays && len(users) == 0 {
			s.documents.Delete(r.manifest)
		}
	}
	if !stays && len(users) == 0 {
		report.Deleted = append(report.Deleted, id)
	}
	return nil
}

// Prune removes images without a name that nothing uses; with all, every image that nothing uses.
func (s *Store) Prune(ctx context.Context, all bool) (RemoveReport, error) {
	ctx = s.ctx(ctx)
	var report RemoveReport
	list, err := s.records(ctx)
	if err != nil {
		return report, err
	}
	var errs []error
	for _, id := range idsOf(list) {
		own := filter(list, func(r record) bool { return r.id == id })
		wanted := slices.ContainsFunc(own, func(r record) bool { return r.isTag() || !(r.demoted || strings.HasPrefix(r.name, noName)) })
		if (wanted && !all) || len(s.opts.InUse(id)) > 0 {
			continue
		}
		if err := s.removeNames(ctx, id, own, list, false, &report); err != nil && !errors.Is(err, ErrInUse) {
			errs = append(errs, describe(ctx, id, err))
		}
	}
	return report, errors.Join(append(errs, s.collect(ctx))...)
}

func idsOf(records []record) []string {
	var ids []string
	for _, r := range records {
		if !slices.Contains(ids, r.id) {
			ids = append(ids, r.id)
		}
	}
	return ids
}

func repositories(records []record) []string {
	var list []string
	for _, r := range records {
		if repo := r.repository(); repo != "" && !slices.Contains(list, repo) {
			list = append(list, repo)
		}
	}
	return list
}
