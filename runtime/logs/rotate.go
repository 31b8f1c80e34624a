package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

func numbered(path string, n int) string { return path + "." + strconv.Itoa(n) }

// rotate moves each file one number up, drops those beyond MaxFiles, and opens a new current file. A crash at any point
// leaves every file under some name: the next rotation goes on from there.
func (w *Writer) rotate() error {
	w.packing.Wait() // renames nothing under a running compression
	path, keep := w.config.Path, w.config.MaxFiles
	if keep <= 1 {
		if err := w.file.Truncate(0); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
		w.size = 0
		return nil
	}
	for n := keep - 1; n > 0; n-- {
		for _, suffix := range []string{"", ".gz"} {
			from := numbered(path, n) + suffix
			var err error
			if n == keep-1 {
				err = os.Remove(from)
			} else {
				err = os.Rename(from, numbered(path, n+1)+suffix)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("rotate: %w", err)
			}
		}
	}
	if err := os.Rename(path, numbered(path, 1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate: %w", err)
	}
	_ = w.file.Close()
	w.file = nil
	if err := w.open(); err != nil {
		return err
	}
	if w.config.Compress {
		w.packing.Go(func() { _ = pack(numbered(path, 1)) })
	}
	return nil
}

// packLeft compresses what a crash left uncompressed.
func (w *Writer) packLeft() {
	path, keep := w.config.Path, w.config.MaxFiles
	w.packing.Go(func() {
		for n := 1; n < keep; n++ {
			_ = pack(numbered(path, n))
		}
	})
}

// pack replaces a file by its compressed form. A failure leaves the file as it is, which readers understand as well.
func pack(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := path + ".gz.tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	z, _ := gzip.NewWriterLevel(out, gzip.BestSpeed) // the level is valid
	if _, err = io.Copy(z, in); err == nil {
		err = z.Close()
	}
	if err2 := out.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	if err = os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}
