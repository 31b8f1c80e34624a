package image

import (
	"errors"
	"io"
	"sync"
)

const (
	chunkSize  = 64 << 10
	pipeChunks = 16 // one megabyte between a writer and its reader
)

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunkSize); return &b }}

var (
	errReaderGone = errors.New("nobody reads any more")
	errCut        = errors.New("cut off")
)

// pipe carries bytes from one goroutine to another through a bounded buffer, so that downloading, decompressing and
// writing files overlap. One writer, one reader.
type pipe struct {
	full chan *[]byte
	gone chan struct{} // closed when the reader has gone
	stop chan struct{} // closed when the reader is to give up
	once sync.Once
	err  error // why the stream ended; set before full is closed

	chunk *[]byte // the reader's
	rest  []byte
}

func newPipe() *pipe {
	return &pipe{full: make(chan *[]byte, pipeChunks), gone: make(chan struct{}), stop: make(chan struct{})}
}

// Write hands p on; it blocks while the buffer is full and fails once the reader has gone.
func (p *pipe) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		chunk := chunks.Get().(*[]byte)
		size := min(len(b), chunkSize) // the chunk is the reader's once sent
		*chunk = append((*chunk)[:0], b[:size]...)
		select {
		case p.full <- chunk:
		case <-p.gone:
			chunks.Put(chunk)
			return n, errReaderGone
		}
		n += size
		b = b[size:]
	}
	return n, nil
}

// end closes the writer's side; the reader gets err after what was written, io.EOF where it is nil. Called once.
func (p *pipe) end(err error) {
	p.err = err
	close(p.full)
}

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.chunk != nil {
			chunks.Put(p.chunk)
			p.chunk = nil
		}
		var chunk *[]byte
		var ok bool
		select {
		case chunk, ok = <-p.full:
		case <-p.stop:
			return 0, errCut
		}
		if !ok {
			if p.err != nil {
				return 0, p.err
			}
			return 0, io.EOF
		}
		p.chunk, p.rest = chunk, *chunk
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// leave tells the writer that nothing more will be read. It may be called from any goroutine, more than once.
func (p *pipe) leave() { p.once.Do(func() { close(p.gone) }) }

// cut ends the reader's stream with an error, from outside and whatever the writer does. Called once.
func (p *pipe) cut() { close(p.stop) }
