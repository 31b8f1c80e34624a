// Package cache keeps the result of loading stack files, so that a command on unchanged files need not load them again.
//
// An entry holds every input of the load: each file read or looked for, and a key over the environment, the options and
// the program's version. It counts only while all of them are as they were; of the stack files themselves it tells what
// they said of each service, for a load that has to look at what has changed only. A file is taken as unchanged when its
// inode, size, modification and change time are: the change time can't be set back by a program. Times are too coarse
// to tell two changes within one tick apart, so for a file that was changed shortly before the entry was made the
// content is compared.
//
// The package stays light on purpose: what loads the files is much heavier than what looks here first.
package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
)

// Entry is what a load found out.
type Entry struct {
	Stack    *spec.Stack      `json:"stack"`
	Warnings spec.Diagnostics `json:"warnings,omitempty"`
}

// Written are hashes of what the stack files say: of each service, and of all else.
type Written struct {
	Services map[string]string `json:"services"`
	Rest     string            `json:"rest"`
}

// Key is a hash over what decides a load besides files.
type Key string

// NewKey hashes its arguments as JSON; JSON must not leave out what counts.
func NewKey(parts ...any) (Key, error) {
	b, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("hash the options of a load: %w", err)
	}
	sum := sha256.Sum256(b)
	return Key(hex.EncodeToString(sum[:])), nil
}

// settled is how long before an entry was made a file must have last changed for its times alone to be trusted.
const settled = 2 * time.Second

// head stands on disk before the entry: it tells what the entry is worth.
type head struct {
	Key     Key      `json:"key"`
	Inputs  []input  `json:"inputs"`
	Written *Written `json:"written,omitempty"`
}

// Found is an entry that was made with the same key.
type Found struct {
	// Changed are the inputs that are not as they were, all others are. The entry holds if there are none.
	Changed []string
	// Files are all inputs.
	Files []string
	// Written tells what the stack files said. It is nil if the entry is worth nothing without them.
	Written *Written
	// Entry is read when it is asked for. It is nil if the file is damaged.
	Entry func() *Entry
}

// input is one file as it was.
type input struct {
	Path   string `json:"path"`
	Absent bool   `json:"absent,omitempty"`
	Dir    bool   `json:"dir,omitempty"` // exists, but is not a file with content
	Inode  uint64 `json:"inode,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Mtime  int64  `json:"mtime,omitempty"` // nanoseconds
	Ctime  int64  `json:"ctime,omitempty"` // nanoseconds
	Hash   string `json:"hash,omitempty"`
	// Fresh says that the times are not to be trusted: only the content is compared.
	Fresh bool `json:"fresh,omitempty"`
}

// Lookup returns the entry in a slot if it has the key. One that is absent or damaged is no error, but simply not there.
//
// A slot has one entry only: it should say which stack is meant, and the key all else, such as the environment, so that
// old entries give way to new ones.
func Lookup(dir string, slot, key Key) (*Found, bool) {
	content, err := os.ReadFile(path(dir, slot))
	if err != nil {
		return nil, false
	}
	var h head
	decoder := json.NewDecoder(bytes.NewReader(content))
	if decoder.Decode(&h) != nil || h.Key != key {
		return nil, false
	}
	rest := content[decoder.InputOffset():]
	f := &Found{Written: h.Written, Entry: sync.OnceValue(func() *Entry {
		var e Entry
		if json.Unmarshal(rest, &e) != nil || e.Stack == nil {
			return nil
		}
		return &e
	})}
	for _, in := range h.Inputs {
		f.Files = append(f.Files, in.Path)
		if !in.unchanged() {
			f.Changed = append(f.Changed, in.Path)
		}
	}
	return f, true
}

// Store keeps an entry in a slot. Files are the paths of all that was read or looked for and not found; started is when the load
// began. If one of them changed since, nothing is kept: what was loaded may be neither the old nor the new.
func Store(dir string, slot, key Key, e Entry, written *Written, files []string, started time.Time) error {
	h := head{Key: key, Written: written}
	now := time.Now()
	for _, file := range files {
		in, err := look(file)
		if err != nil {
			return err
		}
		if !in.Absent && in.Ctime >= started.Add(-tick).UnixNano() {
			return nil
		}
		in.Fresh = now.Sub(time.Unix(0, in.Ctime)) < settled
		h.Inputs = append(h.Inputs, in)
	}
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	if err := errors.Join(encoder.Encode(h), encoder.Encode(e)); err != nil {
		return fmt.Errorf("keep the loaded stack: %w", err)
	}
	return write(path(dir, slot), content.Bytes())
}

// tick is more than the kernel's granularity of file times.
const tick = 20 * time.Millisecond

func path(dir string, slot Key) string {
	return filepath.Join(dir, string(slot)+".json")
}

// write replaces a file in one step, readable by its owner only: there may be secrets in it.
func write(path string, content []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of loaded stacks: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keep the loaded stack: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		f.Close()
		return fmt.Errorf("keep the loaded stack: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("keep the loaded stack: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("keep the loaded stack: %w", err)
	}
	return nil
}

// look takes down a file as it is.
func look(file string) (input, error) {
	in, err := stat(file)
	if err != nil || in.Absent || in.Dir {
		return in, err
	}
	in.Hash, err = hash(file)
	return in, err
}

func stat(file string) (input, error) {
	var st unix.Stat_t
	err := unix.Stat(file, &st)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return input{Path: file, Absent: true}, nil
	}
	if err != nil {
		return input{}, &fs.PathError{Op: "stat", Path: file, Err: err}
	}
	in := input{
		Path: file, Inode: st.Ino, Size: st.Size,
		Mtime: time.Unix(st.Mtim.Unix()).UnixNano(), Ctime: time.Unix(st.Ctim.Unix()).UnixNano(),
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		// A directory's times tell of the names in it, which nothing here depends on.
		return input{Path: file, Dir: true}, nil
	}
	return in, nil
}

func hash(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}

// unchanged compares by the times, and by the content where these are not enough or differ.
func (in input) unchanged() bool {
	now, err := stat(in.Path)
	if err != nil || now.Absent != in.Absent || now.Dir != in.Dir {
		return false
	}
	if in.Absent || in.Dir {
		return true
	}
	if now.Size != in.Size {
		return false
	}
	if !in.Fresh && now.Inode == in.Inode && now.Mtime == in.Mtime && now.Ctime == in.Ctime {
		return true
	}
	h, err := hash(in.Path)
	return err == nil && h == in.Hash
}
