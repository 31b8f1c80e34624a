package voldriver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	recordName = "volume.json"
	dataName   = "_data"
	// removedPrefix marks the folder of a volume that is being removed; no volume's name starts with a dot.
	removedPrefix = ".removed-"
	// DefaultBackend keeps volumes whose file names no driver.
	DefaultBackend = "local"
)

// Options of a Store.
type Options struct {
	Root     string                // absolute; <root>/volumes of the daemon
	Logf     func(string, ...any)  // may be nil
	Drivers  map[string]Driver     // by spec.Mount type
	Backends map[string]Backend    // by Volume.Driver
	Process  func(user string) int // of a user that runs; else 0. May be nil
}

// Store owns the records of the host's volumes. One process has one Store on a Root. Its methods may be called from
// several goroutines; slow ones (mounting, copying) hold up only others on the same volume.
type Store struct {
	Options
	mu    sync.Mutex
	state map[string]*state
}

// state of one volume in this process.
type state struct {
	mu    sync.Mutex      // held while the volume is changed
	users map[string]bool // who has acquired it
	data  Identity        // of what is mounted, where that is known
}

// Open makes the root folder and finishes removals that a crash interrupted.
func Open(o Options) (*Store, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if err := os.MkdirAll(o.Root, 0o711); err != nil {
		return nil, err
	}
	root, err := filepath.EvalSymlinks(o.Root) // the kernel's mount table has real paths
	if err != nil {
		return nil, err
	}
	o.Root = root
	s := &Store{Options: o, state: map[string]*state{}}
	entries, err := os.ReadDir(o.Root)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removedPrefix) {
			if err := removeFolder(filepath.Join(o.Root, e.Name())); err != nil {
				o.Logf("volume folder %s can't be removed yet: %v", e.Name(), err)
			}
		}
	}
	return s, nil
}

// lock takes the volume for changing it. The caller unlocks.
func (s *Store) lock(name string) *state {
	s.mu.Lock()
	st, ok := s.state[name]
	if !ok {
		st = &state{users: map[string]bool{}}
		s.state[name] = st
	}
	s.mu.Unlock()
	st.mu.Lock()
	return st
}

// longestName is what a file system takes for a folder's name.
const longestName = 255

var nameChars = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// validName tells whether a name is one. The length is not left to the pattern: a counted repetition takes as long to
// compile as all other start-up of this package.
func validName(name string) bool { return len(name) <= longestName && nameChars.MatchString(name) }

func (s *Store) folder(name string) string { return filepath.Join(s.Root, name) }

// Ensure makes the volume, or finds it. What exists is kept as it is: with another driver or other options the error is
// ErrConflict and says what differs; labels and the stack don't matter.
func (s *Store) Ensure(_ context.Context, v Volume) (_ Volume, created bool, err error) {
	if !validName(v.Name) {
		return v, false, fmt.Errorf("volume name %q: only letters, digits, _ . and - are possible, the first a letter or digit", v.Name)
	}
	v.Driver = cmp.Or(v.Driver, DefaultBackend)
	backend, err := s.backend(v)
	if err != nil {
		return v, false, err
	}
	if err := backend.Check(v.Options); err != nil {
		return v, false, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	defer s.lock(v.Name).mu.Unlock()
	switch old, err := s.Get(v.Name); {
	case err == nil:
		if diff := differences(old, v); diff != "" {
			return old, false, fmt.Errorf("volume %s: %w: %s; remove it (its data goes with it) or use another name", v.Name, ErrConflict, diff)
		}
		return old, false, os.MkdirAll(old.Mountpoint, 0o755)
	case !errors.Is(err, ErrNotFound):
		return v, false, err
	}
	v.Created = time.Now().UTC()
	v.Mountpoint = filepath.Join(s.folder(v.Name), dataName)
	if err := os.MkdirAll(s.folder(v.Name), 0o711); err != nil {
		return v, false, err
	}
	if err := s.record(v); err != nil {
		return v, false, err
	}
	// Data without a record, which a power cut can leave, is kept.
	return v, true, os.MkdirAll(v.Mountpoint, 0o755)
}

func (s *Store) backend(v Volume) (Backend, error) {
	b, ok := s.Backends[v.Driver]
	if !ok {
		return nil, fmt.Errorf("volume %s: driver %q: %w", v.Name, v.Driver, ErrUnsupported)
	}
	return b, nil
}

// differences lists what sets a wanted volume apart from the one there is.
func differences(have, want Volume) string {
	var diff []string
	if have.Driver != want.Driver {
		diff = append(diff, fmt.Sprintf("driver is %s, wanted %s", have.Driver, want.Driver))
	}
	keys := map[string]bool{}
	for k := range have.Options {
		keys[k] = true
	}
	for k := range want.Options {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if h, w := have.Options[k], want.Options[k]; h != w {
			diff = append(diff, fmt.Sprintf("driver_opts.%s is %q, wanted %q", k, h, w))
		}
	}
	return strings.Join(diff, ", ")
}

// record writes the volume's record, at once or not at all, and syncs it.
func (s *Store) record(v Volume) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(s.folder(v.Name), recordName)
	f, err := os.Create(path + ".new") // a crash leaves it for the next write, which starts it anew
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		os.Remove(path + ".new")
	}
	return err
}

// Get reads one record.
func (s *Store) Get(name string) (Volume, error) {
	var v Volume
	if !validName(name) {
		return v, fmt.Errorf("volume %q: %w", name, ErrNotFound)
	}
	text, err := os.ReadFile(filepath.Join(s.folder(name), recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("volume %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("volume %s: read %s: %w", name, recordName, err)
	}
	// What the record says about its own place is not trusted: the root may have moved.
	v.Name, v.Mountpoint = name, filepath.Join(s.folder(name), dataName)
	return v, nil
}

// List reads all records, by name. Folders without one are not volumes.
func (s *Store) List() ([]Volume, error) {
	entries, err := os.ReadDir(s.Root)
	if err != nil {
		return nil, err
	}
	var volumes []Volume
	for _, e := range entries {
		v, err := s.Get(e.Name())
		switch {
		case err == nil:
			volumes = append(volumes, v)
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return volumes, nil
}
