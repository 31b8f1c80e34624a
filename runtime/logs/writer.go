package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config says where and how a log is kept.
type Config struct {
	Driver   string // JSONFile, Local or None; empty is JSONFile
	Path     string // of the current file; its folder is made when missing
	MaxSize  int64  // bytes before rotation; 0: never
	MaxFiles int    // kept in all, the current one included; 0 or 1: the current one is cut
	Compress bool   // rotated files
	Attrs    map[string]string
}

// Writer writes one container's log. Its methods may be called concurrently; each stream by one goroutine at a time.
type Writer struct {
	config Config
	attrs  []byte

	mu      sync.Mutex
	file    *os.File // nil for None, and after a failed rotation until it can be opened again
	size    int64
	last    time.Time // of the last entry
	lost    int       // entries that could not be written since the last one that could
	buf     []byte    // kept between writes while small
	packing sync.WaitGroup
}

// Open opens the log for appending, after cutting off a last line that a crash left torn.
func Open(c Config) (*Writer, error) {
	w := &Writer{config: c, attrs: encodeAttrs(c.Attrs)}
	if c.Driver == None {
		return w, nil
	}
	if c.Driver != JSONFile && c.Driver != Local && c.Driver != "" {
		return nil, fmt.Errorf("log driver %q is not known", c.Driver)
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	if c.Compress {
		w.packLeft()
	}
	return w, nil
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.config.Path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	size, err := repair(f)
	if err != nil {
		f.Close()
		return fmt.Errorf("log %s: %w", w.config.Path, err)
	}
	w.file, w.size = f, size
	if w.last.IsZero() {
		w.last = lastTime(f, size)
	}
	return nil
}

// lastTime is the time of the last entry: times grow even when the clock was set back between two runs.
func lastTime(f *os.File, size int64) time.Time {
	at, found, err := backLines(f, 1)
	if err != nil || found == 0 || size-at > maxEntry {
		return time.Time{}
	}
	line := make([]byte, size-at)
	if _, err := f.ReadAt(line, at); err != nil {
		return time.Time{}
	}
	e, _ := Parse(line)
	return e.Time
}

// repair cuts the file after its last newline and returns its length.
func repair(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end, err := lastLineEnd(f)
	if err != nil || end == info.Size() {
		return end, err
	}
	return end, f.Truncate(end)
}

// Close closes the log; entries written later are lost.
func (w *Writer) Close() error {
	w.packing.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	w.config.Driver = None
	return err
}

// write appends entries for the given lines by one write(2) for each file. A full disk loses them; the next entry that can be written
// is preceded by one that says how many were lost.
func (w *Writer) write(s *Stream, lines [][]byte) error {
	if len(lines) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.config.Driver == None {
		return nil
	}
	if w.file == nil {
		if err := w.open(); err != nil {
			w.lost += len(lines)
			return err
		}
	}
	attrs := w.attrs
	if s.mark[0] != "" {
		attrs = markAttrs(w.config.Attrs, s.mark)
	}
	b := w.buf[:0]
	if w.lost > 0 {
		note := fmt.Appendf(nil, "stack: %d log entries were lost here: they could not be written\n", w.lost)
		b = appendEntry(b, Stderr, note, w.attrs, w.stamp())
	}
	var failed error
	held := 0 // lines in b
	flush := func() {
		if err := w.put(b); err != nil {
			w.lost += held
			failed = fmt.Errorf("log: %w", err)
		} else if failed == nil {
			w.lost = 0
		}
		b, held = b[:0], 0
	}
	for _, line := range lines {
		before := len(b)
		b = appendEntry(b, s.name, line, attrs, w.stamp())
		if held > 0 && w.config.MaxSize > 0 && w.size+int64(len(b)) > w.config.MaxSize {
			// a burst fills more than one file: this entry begins the next
			next := bytes.Clone(b[before:])
			b = b[:before]
			flush()
			b = append(b, next...)
		}
		held++
	}
	flush()
	if cap(b) <= 4096 {
		w.buf = b
	}
	return failed
}

// stamp gives the time of the next entry, later than that of the last.
func (w *Writer) stamp() time.Time {
	t := time.Now()
	if !t.After(w.last) {
		t = w.last.Add(1)
	}
	w.last = t
	return t
}

// put appends whole entries, rotating first when they would not fit. What was written of a failed write is taken back.
func (w *Writer) put(b []byte) error {
	if w.config.MaxSize > 0 && w.size > 0 && w.size+int64(len(b)) > w.config.MaxSize {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(b)
	if err != nil {
		if n > 0 {
			_ = w.file.Truncate(w.size)
		}
		return err
	}
	w.size += int64(n)
	return nil
}
