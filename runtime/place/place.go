// Package place makes files of a running container equal to files of the host, from outside: through /proc/<pid>/root,
// which shows the container's own mounts, volumes and tmpfs included. It needs no program in the image.
//
// A request names paths, not what to do with them: each is made what it is on the host at this moment, or removed when it
// is gone there. So requests may come late, twice or in any order, and the last one is right.
//
//   - Every path is resolved with the container's root as the root (openat2), so that no symbolic link in it leads out.
//   - A file is written beside its place and renamed over it: a reader sees the old one or the new one.
//   - What is equal already is not written: size and time tell, and where they don't the content does.
//   - Files belong to the container's user, as with `docker compose watch`; modes and times are the host's.
package place

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Set is some paths below one folder, or one file, and where they belong in the container.
type Set struct {
	Source string // absolute path on the host
	Target string // absolute path in the container
	Paths  []string
	// Keep tells of a path below Target whether it survives the removal of the folder it is in; nil keeps nothing.
	Keep func(path string) bool

	mark string
}

// Report is what was done.
type Report struct {
	Written   int   // files, folders and links made or changed
	Unchanged int   // what was equal already
	Removed   int   // paths that the host has no more
	Skipped   int   // devices, sockets and pipes, which are nobody's source
	Bytes     int64 // of the files written
	Failures  []Failure
}

// Failure is one path that could not be made equal.
type Failure struct {
	Path string // in the container
	Err  error
}

func (f Failure) Error() string { return fmt.Sprintf("%s: %v", f.Path, f.Err) }
func (f Failure) Unwrap() error { return f.Err }

// maxFailures are reported in full; the rest would say the same.
const maxFailures = 20

// Apply makes the sets' paths in the container what they are below from, which is the host's root as the one who asks
// sees it. The error is of what makes going on pointless: no space, a read-only root, ctx.
// What is not finished has mark in its name: two containers may share a volume.
func Apply(ctx context.Context, root, from int, owner Owner, mark string, sets []Set) (Report, error) {
	var report Report
	for i := range sets {
		sets[i].mark = mark
		if err := apply(ctx, root, from, owner, &sets[i], &report); err != nil {
			return report, err
		}
	}
	return report, nil
}

// worthWorkers is how many files make a second worker worth its start.
const worthWorkers = 64

// apply first makes what is no file, in the order of paths, so that folders are there, then all files at once.
func apply(ctx context.Context, root, from int, owner Owner, set *Set, report *Report) error {
	slices.Sort(set.Paths)
	var files []found
	err := owner.do(func() error {
		w := newWorker(root, from, set)
		defer w.close()
		err := w.each(ctx, slices.Compact(set.Paths), func(rel string) error {
			f, err := w.place(rel)
			if f.st.Mode != 0 {
				files = append(files, f)
			}
			return err
		})
		report.add(w.report)
		return err
	})
	if err != nil || len(files) == 0 {
		return err
	}
	workers := min(runtime.GOMAXPROCS(0), 1+len(files)/worthWorkers)
	var group sync.WaitGroup
	var mu sync.Mutex
	for part := range slices.Chunk(files, (len(files)+workers-1)/workers) {
		group.Go(func() {
			partErr := owner.do(func() error {
				w := newWorker(root, from, set)
				defer w.close()
				err := w.files(ctx, part)
				mu.Lock()
				defer mu.Unlock()
				report.add(w.report)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			err = cmp.Or(err, partErr)
		})
	}
	group.Wait()
	return err
}

func (r *Report) add(o Report) {
	r.Written += o.Written
	r.Unchanged += o.Unchanged
	r.Removed += o.Removed
	r.Skipped += o.Skipped
	r.Bytes += o.Bytes
	r.Failures = append(r.Failures, o.Failures...)
	r.Failures = r.Failures[:min(len(r.Failures), maxFailures)]
}

// each calls do for each path; errors that are only the path's are reported, others end it.
func (w *worker) each(ctx context.Context, paths []string, do func(rel string) error) error {
	for _, rel := range paths {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !local(rel) {
			return fmt.Errorf("%q: %w", rel, ErrPath)
		}
		if err := w.failed(rel, do(rel)); err != nil {
			return err
		}
	}
	return nil
}

// failed reports an error that is only one path's, and returns one that is all paths'.
func (w *worker) failed(rel string, err error) error {
	if err == nil {
		return nil
	}
	f := Failure{path.Join(w.set.Target, rel), err}
	if pointless(err) {
		return f
	}
	if len(w.report.Failures) < maxFailures {
		w.report.Failures = append(w.report.Failures, f)
	}
	return nil
}

// ErrPath is a path that is not below the set's folder.
var ErrPath = errors.New("not a path below the folder")

// local tells whether a path stays below what it is relative to; the empty path is that itself.
func local(rel string) bool {
	return rel == "" || !strings.HasPrefix(rel, "/") && path.Clean(rel) == rel && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../") && !strings.ContainsRune(rel, 0)
}

func pointless(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// worker places one path after the other; folders that follow each other are opened once.
type worker struct {
	set            *Set
	sources, sinks folders
	report         Report
	buf            []byte
}

func newWorker(root, from int, set *Set) *worker {
	return &worker{set: set, sources: folders{root: from, fd: -1}, sinks: folders{root: root, fd: -1}}
}

func (w *worker) close() {
	w.sources.close()
	w.sinks.close()
}

// found is a regular file of the host as it was seen.
type found struct {
	rel string
	st  unix.Stat_t
}

// place makes one path what it is on the host, but for regular files, which it returns.
func (w *worker) place(rel string) (file found, err error) {
	source, target := path.Join(w.set.Source, rel), path.Join(w.set.Target, rel)
	from, err := w.sources.open(path.Dir(source))
	if absent(err) {
		return found{}, w.remove(rel, target)
	}
	if err != nil {
		return found{}, fmt.Errorf("read %s: %w", path.Dir(source), err)
	}
	var st unix.Stat_t
	err = unix.Fstatat(from, path.Base(source), &st, unix.AT_SYMLINK_NOFOLLOW)
	if absent(err) {
		return found{}, w.remove(rel, target)
	}
	if err != nil {
		return found{}, fmt.Errorf("read %s: %w", source, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return found{rel, st}, nil
	case unix.S_IFDIR:
		return found{}, w.folder(rel, target, &st)
	case unix.S_IFLNK:
		return found{}, w.link(rel, source, target, from)
	}
	w.report.Skipped++
	return found{}, nil
}

// files makes regular files equal to those found.
func (w *worker) files(ctx context.Context, all []found) error {
	for i := range all {
		f := &all[i]
		source, target := path.Join(w.set.Source, f.rel), path.Join(w.set.Target, f.rel)
		err := ctx.Err()
		if err != nil {
			return err
		}
		from, err := w.sources.open(path.Dir(source))
		switch {
		case absent(err):
			err = w.remove(f.rel, target)
		case err == nil:
			err = w.file(f.rel, source, target, from, &f.st)
		}
		if err := w.failed(f.rel, err); err != nil {
			return err
		}
	}
	return nil
}

// absent tells that a path is not there; so it is when what should be a folder is none.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// settled is how old a file must be for its size and time to tell that it is the same: a file can be written twice within
// one tick of the clock that times come from.
const settled = 2 * time.Second

// same tells by size, time and mode whether the two files are equal for sure.
func same(source, target *unix.Stat_t) bool {
	return source.Size == target.Size && source.Mtim == target.Mtim && source.Mode == target.Mode &&
		time.Since(time.Unix(source.Mtim.Unix())) > settled
}
