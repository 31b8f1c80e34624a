// Package atomicfile replaces files in one step: a reader, and whoever comes after a crash, finds the old content or the new one.
package atomicfile

import (
	"os"
	"path/filepath"
)

// Write replaces a file, readable by its owner only. When synced the new content survives a power loss; else a power loss may
// leave a torn file, which costs an fsync less. There is one writer of a file at a time: what a crash left of one is written over.
func Write(path string, data []byte, synced bool) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err == nil && synced {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
