package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// TailNone, as Options.Tail, skips everything that is there already.
const TailNone = -1

// Options say which entries to read.
type Options struct {
	Since  time.Time // not before; zero: from the start
	Until  time.Time // not after; zero: no end. With Follow it ends the reading at the first later entry
	Tail   int       // 0: all; n: the last n lines; TailNone
	Follow bool      // go on with what comes, until ctx ends
}

// errDone ends the reading of a log at Options.Until.
var errDone = errors.New("read to the end that was asked for")

// Read calls use for each entry of the log at path, across its rotated files, oldest first. It returns nil at the end, the error of
// use, or ctx's when that ends it. A log that isn't there is empty; with Follow it is waited for. Lines that are no entries, such as
// a torn one, are passed over. The entry's Line is use's to keep.
func Read(ctx context.Context, path string, o Options, use func(Entry) error) error {
	r := &reader{ctx: ctx, path: path, options: o, use: use}
	defer r.close()
	err := r.read()
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

type reader struct {
	ctx     context.Context
	path    string
	options Options
	use     func(Entry) error
	last    time.Time // of the last entry passed on
	current *os.File  // the youngest file reached
	rest    []byte    // an unfinished line at its end
	skip    int       // lines to pass over before the tail begins
	buffer  *bufio.Reader
}

func (r *reader) close() {
	if r.current != nil {
		r.current.Close()
	}
}

func (r *reader) read() error {
	var follow *follower
	if r.options.Follow {
		var err error
		// Watched before the first read, so that nothing falls in between.
		if follow, err = newFollower(r.path); err != nil {
			return err
		}
		defer follow.close()
	}
	if err := r.existing(); err != nil {
		return err
	}
	if follow == nil {
		return nil
	}
	return r.follow(follow)
}

// existing passes on what is there now, and leaves the current file open at its end.
func (r *reader) existing() error {
	files, err := openAll(r.path)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.close()
		}
	}()
	if n := len(files); n > 0 && files[n-1].name == r.path {
		r.current = files[n-1].file
		files[n-1].file = nil
	}
	first := 0
	if t := r.options.Tail; t == TailNone {
		return r.skipAll()
	} else if t > 0 {
		if first, err = r.seekTail(files, t); err != nil {
			return err
		}
	}
	for _, f := range files[first:] {
		var in io.Reader = r.current
		if f.file != nil {
			if in, err = f.reader(); err != nil {
				return err
			}
			r.rest = nil
		}
		if err := r.lines(in); err != nil {
			return err
		}
	}
	return nil
}

// skipAll goes to the end of the current file, to the start of a line that is not complete there.
func (r *reader) skipAll() error {
	r.last = time.Now()
	if r.current == nil {
		return nil
	}
	end, err := lastLineEnd(r.current)
	if err != nil {
		return err
	}
	_, err = r.current.Seek(end, io.SeekStart)
	return err
}

// lines passes on the complete lines of a file and keeps an unfinished one.
func (r *reader) lines(in io.Reader) error {
	if r.buffer == nil {
		r.buffer = bufio.NewReaderSize(in, 64<<10)
	}
	buffered := r.buffer
	buffered.Reset(in)
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		line, err := buffered.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF) {
			if r.rest = append(r.rest, line...); len(r.rest) > maxEntry {
				r.rest = r.rest[:0] // no entry is as long: it is garbage, and so is what follows up to the next newline
			}
			if err == io.EOF { //nolint:errorlint // ReadSlice returns it bare
				return nil
			}
			continue
		}
		if err != nil {
			if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil // a damaged file: what could be read has been passed on
			}
			return fmt.Errorf("log: %w", err)
		}
		if len(r.rest) > 0 {
			line = append(r.rest, line...)
			r.rest = r.rest[:0]
		}
		if err := r.pass(line); err != nil {
			return err
		}
	}
}

// maxEntry is the most bytes of one line of the file: MaxLine, each byte escaped by six, and room for attributes.
const maxEntry = 1 << 20

// pass hands one line of the file on if it is wanted.
func (r *reader) pass(line []byte) error {
	if r.skip > 0 {
		r.skip--
		return nil
	}
	e, ok := Parse(line)
	if !ok || e.Time.Before(r.options.Since) {
		return nil
	}
	if !r.options.Until.IsZero() && e.Time.After(r.options.Until) {
		return errDone
	}
	if !e.Time.After(r.last) {
		return nil // seen before a rotation
	}
	r.last = e.Time
	return r.use(e)
}

// Parse reads one line of a log file. It is false when the line is no entry.
func Parse(line []byte) (Entry, bool) {
	var raw struct {
		Log    *string           `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if json.Unmarshal(line, &raw) != nil || raw.Log == nil || raw.Time.IsZero() {
		return Entry{}, false
	}
	return Entry{Time: raw.Time, Stream: raw.Stream, Line: []byte(*raw.Log), Attrs: raw.Attrs}, true
}

// logFile is one file of a log.
type logFile struct {
	name   string
	file   *os.File // nil for the current one, which the reader keeps
	packed bool
}

func (f *logFile) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// reader starts at the file's beginning, or where a search for the tail has left a plain file.
func (f *logFile) reader() (io.Reader, error) {
	if !f.packed {
		return f.file, nil
	}
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	z, err := gzip.NewReader(f.file)
	if err != nil {
		return bytes.NewReader(nil), nil //nolint:nilerr // damaged: nothing can be read of it
	}
	return z, nil
}

// openAll opens the files of a log, the oldest first, the current one last. A rotation in between may make a file appear twice,
// which the order of times sorts out, but never lets one be missed: it looks from the youngest on, and files grow older.
func openAll(path string) (files []*logFile, err error) {
	add := func(name string, packed bool) (bool, error) {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("log: %w", err)
		}
		files = append([]*logFile{{name: name, file: f, packed: packed}}, files...)
		return true, nil
	}
	_, err = add(path, false)
	for n, found := 1, true; err == nil && found; n++ {
		if found, err = add(numbered(path, n), false); err == nil && !found {
			found, err = add(numbered(path, n)+".gz", true)
		}
	}
	if err != nil {
		for _, f := range files {
			f.close()
		}
		return nil, err
	}
	return files, nil
}
