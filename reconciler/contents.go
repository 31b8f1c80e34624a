package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/spec"
)

// The contents of a stack's configs, and of secrets that are in no file, are kept beside its revisions, one file a content,
// named by its digest: so a container that is made again later, or gone back to, gets what was applied, whatever the stack
// file's files hold by then. Secrets in files are read from there.

// largestContent is how much of one config or secret is kept. Larger ones are read from their files whenever a container starts.
const largestContent = 8 << 20

func (r *Reconciler) contentPath(stack, digest string) string {
	return filepath.Join(r.stackDir(stack), "contents", strings.TrimPrefix(digest, "sha256:"))
}

// ErrContentChanged means that a config or secret is not what it was when the stack file was read.
var ErrContentChanged = errors.New("the content changed while the stack file was applied")

// keepContents keeps what a new revision's configs and secrets hold, and returns its stack without it.
func (r *Reconciler) keepContents(stack string, rev *Revision) (*spec.Stack, error) {
	bare := *rev.Stack
	needed := map[string]bool{}
	for _, svc := range bare.Workloads() {
		for _, m := range append(slices.Clone(svc.Secrets), svc.Configs...) {
			needed[m.Digest] = true
		}
	}
	for _, declared := range []*map[string]*spec.File{&bare.Secrets, &bare.Configs} {
		without := make(map[string]*spec.File, len(*declared))
		for key, f := range *declared {
			if declared == &bare.Secrets && f.File != "" {
				without[key] = f // a secret is copied to no other disk: its own file is asked each time
				continue
			}
			needed[f.Digest] = true
			kept, err := r.keepContent(stack, f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			if kept && f.Content != nil {
				withoutContent := *f
				withoutContent.Content = nil
				f = &withoutContent
			}
			without[key] = f
		}
		*declared = without
	}
	delete(needed, "")
	rev.Contents = slices.Sorted(maps.Keys(needed))
	return &bare, nil
}

// keepContent writes one content down, unless it is there, and tells whether it is.
func (r *Reconciler) keepContent(stack string, f *spec.File) (bool, error) {
	if f.Digest == "" || f.External || f.Sealed {
		return false, nil
	}
	if r.isKept(stack, f.Digest) {
		return true, nil
	}
	path, content := r.contentPath(stack, f.Digest), f.Content
	if f.File != "" {
		info, err := os.Stat(f.File)
		if err != nil {
			return false, err
		}
		if info.Size() > largestContent {
			return false, nil
		}
		if content, err = os.ReadFile(f.File); err != nil {
			return false, err
		}
	}
	if len(content) > largestContent {
		return false, nil
	}
	if contentDigest(content) != f.Digest {
		return false, fmt.Errorf("%w; run the command again", ErrContentChanged)
	}
	return true, atomicfile.Write(path, content, true) // its name says what is in it: a torn one would be taken for it
}

// content is a kept content; ok is false where it is not kept, or not whole.
func (r *Reconciler) content(stack, digest string) (content []byte, ok bool) {
	if digest == "" {
		return nil, false
	}
	content, err := os.ReadFile(r.contentPath(stack, digest))
	return content, err == nil && contentDigest(content) == digest
}

// isKept tells whether a content is kept.
func (r *Reconciler) isKept(stack, digest string) bool {
	if digest == "" {
		return false
	}
	_, err := os.Stat(r.contentPath(stack, digest))
	return err == nil
}

// fillContents gives a stack read from a revision the contents that it declares inline.
func (r *Reconciler) fillContents(stack string, s *spec.Stack) error {
	for _, declared := range []map[string]*spec.File{s.Secrets, s.Configs} {
		for key, f := range declared {
			if f.File != "" || f.External || f.Content != nil || f.Digest == "" || f.Digest == contentDigest(nil) {
				continue
			}
			content, ok := r.content(stack, f.Digest)
			if !ok {
				return fmt.Errorf("stack %s: the kept content of %s is lost", stack, key)
			}
			f.Content = content
		}
	}
	return nil
}

// dropContents removes the contents that neither the given revisions nor a container of the stack needs.
func (r *Reconciler) dropContents(stack string, revisions []int) {
	dir := filepath.Join(r.stackDir(stack), "contents")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return // most stacks have none, and need no look into their revisions
	}
	needed := map[string]bool{}
	for _, n := range revisions {
		rev := r.about(stack, n)
		if rev.Digest == "" {
			return // what it needs is lost
		}
		for _, digest := range rev.Contents {
			needed[filepath.Base(r.contentPath(stack, digest))] = true
		}
	}
	for _, v := range r.engine.List(stack) {
		for _, f := range v.Files {
			needed[filepath.Base(f.File)] = true
		}
	}
	for _, e := range entries {
		if needed[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			r.logf("stack %s: drop a content: %v", stack, err)
		}
	}
}

func contentDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
