package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// tree knows the files below all rules' paths and which of them are to be looked at.
//
// The kernel watches folders one by one, so each is watched that a rule may be about, as soon as it is there. A folder
// is watched before it is listed: what is made in it meanwhile comes as an event, or twice.
type tree struct {
	fs     *fsnotify.Watcher
	report func(Event)
	wake   chan struct{} // the worker, when there is something to look at
	again  chan renewal  // the reader, to go on with other rules

	// Only the reader uses these.
	rules    []*rule
	limited  bool // the kernel refused to watch some folder
	warned   bool // of that
	watching map[string]bool

	mu      sync.Mutex
	known   map[string]stamp // what is there
	pending map[string]*change
	marked  time.Time // when a path was last marked
}

// change is a path that is to be looked at.
type change struct {
	since time.Time
	sure  bool      // changed for certain; else only when its stamp differs
	gone  time.Time // when it was first found to be absent
}

// rescanEvery is how often all is looked at while not all can be watched.
const rescanEvery = 2 * time.Second

func newTree(rules []*rule, report func(Event)) (*tree, error) {
	watcher, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", limitError(err))
	}
	t := &tree{
		fs: watcher, report: report, wake: make(chan struct{}, 1), again: make(chan renewal), watching: map[string]bool{},
		known: map[string]stamp{}, pending: map[string]*change{},
	}
	t.begin(rules)
	return t, nil
}

// begin watches all that the rules are about. What is there at the beginning is no change; what the rules before were
// about, and is not as it was known, is one.
func (t *tree) begin(rules []*rule) {
	t.mu.Lock()
	pending := maps.Clone(t.pending)
	t.mu.Unlock()
	before := t.rules
	t.rules = rules
	t.rescan()
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.pending, func(path string, _ *change) bool { return pending[path] == nil && !concerned(before, path) })
}

// anchor watches the folder that a rule's path is in, or is going to be in.
func (t *tree) anchor(path string) {
	t.watch(existing(filepath.Dir(path)))
}

// watch has the kernel watch one folder.
func (t *tree) watch(dir string) bool {
	if t.watching[dir] {
		return true
	}
	err := t.fs.Add(dir)
	switch {
	case err == nil:
		t.watching[dir] = true
		return true
	case errors.Is(err, syscall.ENOSPC):
		t.limited = true
		if !t.warned {
			t.warned = true
			t.report(Event{Kind: Warning, Text: fmt.Sprintf("%s and others are looked at every %v only: %v", dir, rescanEvery, watches)})
		}
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		t.limited = true
		t.report(Event{Kind: Warning, Text: fmt.Sprintf("%s can't be watched and is looked at every %v instead: %v", dir, rescanEvery, err)})
	}
	return false
}

// read takes in events until ctx ends.
func (t *tree) read(ctx context.Context) error {
	defer t.fs.Close()
	look := time.NewTicker(rescanEvery)
	defer look.Stop()
	for {
		var due <-chan time.Time
		if t.limited {
			due = look.C
		} else {
			look.Reset(24 * time.Hour) // no reason to wake up
		}
		select {
		case <-ctx.Done():
			return nil
		case next := <-t.again:
			t.begin(next.rules)
			close(next.done)
		case ev, ok := <-t.fs.Events:
			if !ok {
				return nil
			}
			t.event(ev)
		case err, ok := <-t.fs.Errors:
			if !ok {
				return nil
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				t.report(Event{Kind: Note, Text: "more changed at once than the kernel could tell: looking at all files"})
			} else {
				t.report(Event{Kind: Warning, Text: fmt.Sprintf("watch files: %v: looking at all files", err)})
			}
			t.rescan()
		case <-due:
			t.limited = false // rescan finds out anew
			t.rescan()
		}
		if t.limited && due == nil {
			look.Reset(rescanEvery)
		}
		t.kick()
	}
}

func (t *tree) kick() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tree) event(ev fsnotify.Event) {
	path := ev.Name
	if path == "" || ev.Op == 0 {
		return
	}
	if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
		t.forget(path)
	}
	if !t.concerned(path) {
		t.above(path)
		return
	}
	t.mark(path, !(ev.Op == fsnotify.Chmod))
	if ev.Has(fsnotify.Create) {
		t.scan(path, true)
	}
}

// above handles what happens to folders that rules' paths are in.
func (t *tree) above(path string) {
	for _, r := range t.rules {
		if isBelow(path, r.Path) {
			t.anchor(r.Path)
			t.scan(r.Path, true)
		}
	}
}

// concerned tells whether a path is, or may be on the way to, what a rule is about.
func (t *tree) concerned(path string) bool { return concerned(t.rules, path) }

func concerned(rules []*rule, path string) bool {
	for _, r := range rules {
		if isBelow(r.Path, path) && !r.ignored.Whole(path) {
			return true
		}
	}
	return false
}

// mark has a path looked at.
func (t *tree) mark(path string, sure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.markLocked(path, sure)
}

func (t *tree) markLocked(path string, sure bool) {
	c := t.pending[path]
	if c == nil {
		c = &change{since: time.Now()}
		t.pending[path] = c
	}
	c.sure = c.sure || sure
	t.marked = time.Now()
}

const (
	// many is how many pending paths make a burst, such as a checkout. What comes in one is gathered until it pauses: files
	// are not placed again and again while they are made, and their maker gets the processor.
	many = 8
	// pause ends a burst, and longestBurst is how long a burst that does not pause is gathered.
	pause        = 8 * time.Millisecond
	longestBurst = 200 * time.Millisecond
)

// gathering tells until when to wait with a look at what is pending; zero is not at all. A single save never waits.
func (t *tree) gathering(since time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.pending) < many || now.Sub(t.marked) >= pause || now.Sub(since) >= longestBurst {
		return time.Time{}
	}
	return t.marked.Add(pause)
}

// scan watches a folder and all below it, and marks what is new or changed. Of a file it takes the stamp.
func (t *tree) scan(path string, sure bool) {
	if !t.concerned(path) {
		return
	}
	info, err := os.Lstat(path)
	if err != nil {
		return // it comes as an event
	}
	t.note(path, stampOf(info), sure)
	if !info.IsDir() || !t.watch(path) && !t.limited {
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.report(Event{Kind: Warning, Text: fmt.Sprintf("%s can't be read: %v", path, err)})
	}
	for _, e := range entries {
		t.scan(filepath.Join(path, e.Name()), sure)
	}
}

// note marks a path that is not as it is known.
func (t *tree) note(path string, now stamp, sure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.known[path]; !ok || old != now {
		t.markLocked(path, sure)
		if !ok {
			t.known[path] = now // so that its removal is noticed even if it is gone before it is looked at
		}
	}
}

// forget stops watching a folder that was removed or renamed, and marks what was known in it.
func (t *tree) forget(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.watching[path] && !t.known[path].mode.IsDir() {
		return
	}
	for known := range t.known {
		if known != path && isBelow(path, known) {
			t.markLocked(known, true)
		}
	}
	for dir := range t.watching {
		if isBelow(path, dir) {
			_ = t.fs.Remove(dir) // the kernel may have done so
			delete(t.watching, dir)
		}
	}
}

// rescan looks at all files.
func (t *tree) rescan() {
	for dir := range t.watching { // those that are gone are watched anew when they come back
		if _, err := os.Lstat(dir); err != nil {
			_ = t.fs.Remove(dir)
			delete(t.watching, dir)
		}
	}
	for _, r := range t.rules {
		t.anchor(r.Path)
		t.scan(r.Path, true)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for path := range t.known {
		if _, err := os.Lstat(path); err != nil {
			t.markLocked(path, true)
		}
	}
}

// files are all known paths that a rule is about, relative to the rule's.
func (t *tree) files(r *rule) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rels []string
	for path := range t.known {
		if rel, ok := r.about(path); ok {
			rels = append(rels, rel)
		}
	}
	return rels
}
