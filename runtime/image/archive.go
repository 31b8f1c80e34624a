package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// maxMembers is how many members of an archive are remembered by name. Archives of images have a few dozen; one that has
// more than this is a root filesystem.
const maxMembers = 20_000

// archiveFile is an uncompressed tar in a file without a name, which goes when it is closed, however the process ends.
type archiveFile struct {
	file    *os.File
	size    int64
	members map[string]member
	entries int
}

type member struct {
	offset, size int64
	link         string // what a link points to, relative to the archive's root
}

// spool writes r, decompressed, to a file below dir and looks at what is in it.
func spool(dir string, r io.Reader, limits Limits) (_ *archiveFile, err error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, classifyUnpack(err)
	}
	defer plain.Close()
	file, err := tempFile(dir)
	if err != nil {
		return nil, err
	}
	a := &archiveFile{file: file}
	defer func() {
		if err != nil {
			err = errors.Join(classifyUnpack(err), file.Close())
		}
	}()
	if a.size, err = io.CopyBuffer(writerOnly{file}, &boundReader{r: plain, left: streamLimit(limits)}, make([]byte, 256<<10)); err != nil {
		return nil, err
	}
	return a, a.index(limits)
}

// tempFile makes a file without a name.
func tempFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func (a *archiveFile) index(limits Limits) error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	a.members = map[string]member{}
	for tr := tar.NewReader(a.file); ; a.entries++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return faultf(ErrInvalid, "not a tar archive, or a damaged one: %w", err)
		}
		if a.entries >= limits.LayerEntries {
			return faultf(ErrInvalid, "more than %d entries", limits.LayerEntries)
		}
		if len(a.members) >= maxMembers {
			continue
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			offset, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.members[name] = member{offset: offset, size: h.Size}
		case tar.TypeSymlink:
			a.members[name] = member{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.members[name] = member{link: path.Clean(h.Linkname)}
		}
	}
}

// open finds a member, through links.
func (a *archiveFile) open(name string) (*io.SectionReader, error) {
	next := path.Clean(name)
	for range 10 {
		m, ok := a.members[next]
		if !ok {
			return nil, faultf(ErrInvalid, "the archive lacks %s", name)
		}
		if m.link == "" {
			if m.offset+m.size > a.size {
				return nil, faultf(ErrInvalid, "the archive ends within %s", name)
			}
			return io.NewSectionReader(a.file, m.offset, m.size), nil
		}
		next = m.link
	}
	return nil, faultf(ErrInvalid, "%s is a link to itself", name)
}

// read returns a small member whole.
func (a *archiveFile) read(name string, limit int64) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > limit {
		return nil, faultf(ErrInvalid, "%s has %d bytes", name, r.Size())
	}
	body := make([]byte, r.Size())
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return body, nil
}

func (a *archiveFile) has(name string) bool {
	_, ok := a.members[name]
	return ok
}
