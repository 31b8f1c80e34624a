package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// seekTail positions the files so that reading on from the returned one gives the last n lines. Plain files are read
// backwards from their end, as far as needed; a compressed one as a whole.
func (r *reader) seekTail(files []*logFile, n int) (first int, err error) {
	for first = len(files) - 1; first >= 0; first-- {
		f := files[first]
		plain := f.file
		if plain == nil {
			plain = r.current
		}
		if f.packed {
			lines, err := countLines(f)
			if err != nil {
				return 0, err
			}
			if lines > n {
				r.skip = lines - n
			}
			n -= lines
		} else {
			at, found, err := backLines(plain, n)
			if err != nil {
				return 0, fmt.Errorf("log: %w", err)
			}
			if _, err := plain.Seek(at, io.SeekStart); err != nil {
				return 0, fmt.Errorf("log: %w", err)
			}
			n -= found
		}
		if n <= 0 {
			return first, nil
		}
	}
	return 0, nil
}

// countLines counts the lines of a compressed file; a damaged one has those that can be read.
func countLines(f *logFile) (int, error) {
	in, err := f.reader()
	if err != nil {
		return 0, err
	}
	lines, block := 0, make([]byte, 64<<10)
	for {
		n, err := in.Read(block)
		lines += bytes.Count(block[:n], []byte{'\n'})
		if err != nil {
			return lines, nil //nolint:nilerr // the end, or damage
		}
	}
}

// backLines finds where the last n complete lines of a file begin, and how many there are, at most n.
func backLines(f *os.File, n int) (at int64, found int, err error) {
	end, err := lastLineEnd(f)
	if err != nil || end == 0 {
		return 0, 0, err
	}
	block := make([]byte, 64<<10)
	for at = end - 1; at > 0; { // the last line's own newline does not begin a line
		from := max(0, at-int64(len(block)))
		part := block[:at-from]
		if _, err := f.ReadAt(part, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if found++; found == n {
				return from + int64(i) + 1, n, nil
			}
		}
		at = from
	}
	return 0, found + 1, nil
}

// lastLineEnd is the offset behind the last newline of a file.
func lastLineEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("log: %w", err)
	}
	block := make([]byte, 4096)
	for at := info.Size(); at > 0; {
		from := max(0, at-int64(len(block)))
		n, err := f.ReadAt(block[:at-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("log: %w", err)
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		at = from
	}
	return 0, nil
}
