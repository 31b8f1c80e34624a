// Package cache keeps the result of loading stack files, so that a command on unchanged files need not load them again.
//
// An entry holds every input of the load: each file read or looked for, and a key over the environment, the options and
// the program's version. It counts only while all of them are as they were. A file is taken as unchanged when its
// inode, size, modification and change time are: the change time can't be set back by a program. Times are too coarse
// to tell two changes within one tick apart, so for a file that was changed shortly before the entry was made the
// content is compared.
//
// The package stays light on purpose: what loads the files is much heavier than what looks here first.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
)

// Entry is what a load found out.
type Entry struct {
	Stack    *spec.Stack      `json:"stack"`
	Warnings spec.Diagnostics `json:"warnings,omitempty"`
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

// stored is an entry as it is on disk.
type stored struct {
	Key    Key     `json:"key"`
	Inputs []input `json:"inputs"`
	Entry
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

// Lookup returns the entry in a slot if it has the key and every input is as it was. An entry that is absent, damaged or
// out of date is no error, but simply not there.
//
// A slot has one entry only: it should say which stack is meant, and the key all else, such as the environment, so that
// old entries give way to new ones.
func Lookup(dir string, slot, key Key) (*Entry, bool) {
	content, err := os.ReadFile(path(dir, slot))
	if err != nil {
		return nil, false
	}
	var s stored
	if json.Unmarshal(content, &s) != nil || s.Key != key || s.Stack == nil {
		return nil, false
	}
	for _, in := range s.Inputs {
		if !in.unchanged() {
			return nil, false
		}
	}
	return &s.Entry, true
}

// Store keeps an entry in a slot. Files are the paths of all that was read or looked for and not found; started is when the load
// began. If one of them changed since, nothing is kept: what was loaded may be neither the old nor the new.
func Store(dir string, slot, key Key, e Entry, files []string, started time.Time) error {
	s := stored{Key: key, Entry: e}
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
		s.Inputs = append(s.Inputs, in)
	}
	content, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("keep the loaded stack: %w", err)
	}
	return write(path(dir, slot), content)
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
