package logs

import "bytes"

// Stream cuts one output of a container into lines.
type Stream struct {
	w    *Writer
	name string
	mark [2]string // an attribute of its own, with its value
	rest []byte    // an unfinished line, at most MaxLine
	// lines is reused between calls.
	lines [][]byte
}

// Stream returns the writer's end for one output: Stdout or Stderr.
func (w *Writer) Stream(name string) *Stream { return &Stream{w: w, name: name} }

// Marked is a Stream whose entries carry one more attribute: the output of a hook beside that of the container.
func (w *Writer) Marked(name, attr, value string) *Stream {
	return &Stream{w: w, name: name, mark: [2]string{attr, value}}
}

// Write logs the complete lines in p and keeps the rest for the next call. p may be reused afterwards. An error means
// that entries were lost, and is no reason to stop: the output of a container must be read on.
func (s *Stream) Write(p []byte) error {
	s.lines = s.lines[:0]
	for {
		i := bytes.IndexByte(p, '\n')
		end := i + 1
		if i < 0 {
			end = len(p)
		}
		if room := MaxLine - len(s.rest); end > room && !(i >= 0 && i == room) {
			end, i = room, room // cut: the line goes on
		}
		if i < 0 {
			break
		}
		line := p[:end]
		if len(s.rest) > 0 {
			line = append(s.rest, line...)
			s.rest = nil
		}
		s.lines = append(s.lines, line)
		p = p[end:]
	}
	err := s.w.write(s, s.lines)
	clear(s.lines)
	if cap(s.lines) > 64 {
		s.lines = nil
	}
	s.rest = append(s.rest, p...)
	return err
}

// Flush logs an unfinished last line.
func (s *Stream) Flush() error {
	if len(s.rest) == 0 {
		return nil
	}
	line := s.rest
	s.rest = nil
	return s.w.write(s, [][]byte{line})
}
