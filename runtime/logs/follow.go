package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// follower is told by the kernel when something happens in the log's folder: a write, or a rotation.
type follower struct{ watch *fsnotify.Watcher }

// newFollower watches the folder, which is made when missing: a log is waited for that nobody has begun.
func newFollower(path string) (*follower, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	dir := filepath.Dir(path)
	if err = os.MkdirAll(dir, 0o700); err == nil {
		err = w.Add(dir)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("log: %w", err)
	}
	return &follower{w}, nil
}

func (f *follower) close() { _ = f.watch.Close() }

// follow passes on what is written from now on, until ctx ends or the log is removed.
func (r *reader) follow(f *follower) error {
	for {
		if err := r.catchUp(); err != nil {
			return err
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case err := <-f.watch.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // catching up needs to know no more than that something happened
				return fmt.Errorf("log: %w", err)
			}
		case e, ok := <-f.watch.Events:
			if !ok || e.Has(fsnotify.Remove) && e.Name == filepath.Dir(r.path) {
				return nil
			}
		}
	}
}

// catchUp reads on: the file at hand to its end, then, if the log was rotated, the files after it.
func (r *reader) catchUp() error {
	for {
		if r.current != nil {
			if err := r.cutBack(); err != nil {
				return err
			}
			if err := r.lines(r.current); err != nil {
				return err
			}
		}
		next, err := r.next()
		if err != nil || next == nil {
			return err
		}
		if r.current != nil {
			// What was written between the last read and the rotation.
			if err := r.lines(r.current); err != nil {
				next.close()
				return err
			}
			r.current.Close()
		}
		r.rest = nil
		if next.packed {
			in, err := next.reader()
			if err == nil {
				err = r.lines(in)
			}
			if err != nil {
				next.close()
				return err
			}
		}
		r.current = next.file
	}
}

// cutBack starts over when the file has been cut: a log of one file rotates like that, and a repair shortens it.
func (r *reader) cutBack() error {
	at, err := r.current.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	info, err := r.current.Stat()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if info.Size() < at {
		r.rest = nil
		if _, err := r.current.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	return nil
}

// next opens the file that follows the one at hand; nil when that is the current one. When the file at hand is no longer
// there under any plain name, because it was compressed or dropped meanwhile, it is the oldest there is, and the times tell what
// was passed on before.
func (r *reader) next() (*logFile, error) {
	files, err := openAll(r.path)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	choice := 0
	if r.current != nil {
		at, err := r.current.Stat()
		if err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
		for i, f := range files {
			info, err := f.file.Stat()
			if err == nil && os.SameFile(at, info) {
				choice = i + 1
			}
		}
	}
	for i, f := range files {
		if i != choice {
			f.close()
		}
	}
	if choice == len(files) {
		return nil, nil
	}
	return files[choice], nil
}
