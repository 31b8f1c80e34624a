package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Inputs tells when the files change that a stack was loaded from. The folders they are in are watched, so that it makes
// no difference whether a file is written, renamed into its place, or made where none was.
type Inputs struct {
	fs      *fsnotify.Watcher
	changed chan struct{}

	mu    sync.Mutex
	files map[string]stamp // the zero stamp of one that is not there
}

// settling is how long files must have been quiet: several are often saved at once.
const settling = 20 * time.Millisecond

// tick is how coarse the clock is that files' times come from.
const tick = 10 * time.Millisecond

// NewInputs watches nothing yet.
func NewInputs() (*Inputs, error) {
	watcher, err := fsnotify.NewBufferedWatcher(256)
	if err != nil {
		return nil, fmt.Errorf("watch the stack file: %w", limitError(err))
	}
	in := &Inputs{fs: watcher, changed: make(chan struct{}, 1), files: map[string]stamp{}}
	go in.read()
	return in, nil
}

// Changed receives when one of the files is not as it was when Set was called.
func (in *Inputs) Changed() <-chan struct{} { return in.changed }

// Close ends the watch.
func (in *Inputs) Close() error { return in.fs.Close() }

// Set says which files to watch from now on, absolute paths all, those included that are not there. What has changed
// after loaded, the time when they began to be read, counts as changed.
func (in *Inputs) Set(files []string, loaded time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.files = map[string]stamp{}
	for _, file := range files {
		in.files[file] = in.stampOf(file)
		if target, err := filepath.EvalSymlinks(file); err == nil && target != file {
			in.files[target] = in.stampOf(target)
		}
	}
	if err := in.watchLocked(); err != nil {
		return err
	}
	for _, s := range in.files {
		if changed := time.Unix(s.ctime.Unix()); s.mode.IsRegular() && changed.After(loaded.Add(-tick)) {
			in.tell()
		}
	}
	return nil
}

func (in *Inputs) watchLocked() error {
	for file := range in.files {
		if err := in.fs.Add(existing(filepath.Dir(file))); err != nil {
			return fmt.Errorf("watch %s: %w", filepath.Dir(file), limitError(err))
		}
	}
	return nil
}

func (in *Inputs) stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stampOf(info)
}

// read waits for files to change and to be quiet again.
func (in *Inputs) read() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var since time.Time
	for {
		select {
		case ev, ok := <-in.fs.Events:
			if !ok {
				return
			}
			if !in.about(ev.Name) {
				continue
			}
		case _, ok := <-in.fs.Errors: // events were lost
			if !ok {
				return
			}
		case <-timer.C:
			if in.beingWritten() && time.Since(since) < patience {
				timer.Reset(settling)
				continue
			}
			since = time.Time{}
			if in.differ() {
				in.tell()
			}
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		timer.Reset(settling)
	}
}

// about tells whether a path is one of the files, or a folder on the way to one.
func (in *Inputs) about(path string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for file := range in.files {
		if isBelow(path, file) {
			return true
		}
	}
	return false
}

func (in *Inputs) beingWritten() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for file := range in.files {
		if written(file) {
			return true
		}
	}
	return false
}

func (in *Inputs) differ() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_ = in.watchLocked() // a folder may be there now that was not; if it can't be watched, what is above it is
	for file, old := range in.files {
		if in.stampOf(file) != old {
			return true
		}
	}
	return false
}

func (in *Inputs) tell() {
	select {
	case in.changed <- struct{}{}:
	default:
	}
}
