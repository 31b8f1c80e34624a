// Package wire carries frames and open files over a unix stream socket, for both ends of the shim protocol.
//
// A frame is a 4-byte big-endian length and JSON. Files travel as SCM_RIGHTS with the frame's first bytes; the frame
// says how many belong to it.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxFrame is the largest frame either end accepts, in bytes.
const MaxFrame = 16 << 20

// maxRights is how many files the kernel takes with one message (SCM_MAX_FD).
const maxRights = 253

// ErrProtocol tells that the peer sent what is not a frame.
var ErrProtocol = errors.New("not a frame of the shim protocol")

// Frame is a request (Op), a reply (ID without Op) or an event (Event).
type Frame struct {
	ID    uint64          `json:"id,omitempty"`
	Op    string          `json:"op,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Code  string          `json:"code,omitempty"`
	Error string          `json:"error,omitempty"`
	Event json.RawMessage `json:"event,omitempty"`
	Files int             `json:"files,omitempty"`
}

// Conn is one end of a connection. One goroutine may read; any number may write.
type Conn struct {
	sock    *net.UnixConn
	writing sync.Mutex

	in    []byte // received, not yet consumed
	files []int  // received, not yet claimed by a frame
}

// New takes over the socket.
func New(sock *net.UnixConn) *Conn { return &Conn{sock: sock} }

// Close ends the connection. A blocked Read returns net.ErrClosed.
func (c *Conn) Close() error { return c.sock.Close() }

// Write sends one frame with its files. The files stay the caller's.
func (c *Conn) Write(f Frame, files ...*os.File) error {
	f.Files = len(files)
	body, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("frame of %d bytes: %w", len(body), ErrProtocol)
	}
	data := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(data, uint32(len(body)))
	data = append(data, body...)
	rights := make([]int, len(files))
	for i, file := range files {
		if rights[i], err = descriptor(file); err != nil {
			return err
		}
	}

	c.writing.Lock()
	defer c.writing.Unlock()
	for len(rights) > 0 {
		// One byte carries each batch of files: a frame has more bytes than batches.
		n := min(len(rights), maxRights)
		if _, _, err := c.sock.WriteMsgUnix(data[:1], unix.UnixRights(rights[:n]...), nil); err != nil {
			return err
		}
		data, rights = data[1:], rights[n:]
		for _, f := range files {
			_ = f.Name() // keeps the files, whose descriptors are in flight, from being finalized
		}
	}
	_, err = c.sock.Write(data)
	return err
}

// descriptor gives the file's descriptor and leaves its blocking mode alone, which Fd would not.
func descriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = raw.Control(func(p uintptr) { fd = int(p) })
	return fd, err
}

// Read returns the next frame and the files that came with it, which are the caller's to close. It returns io.EOF
// or net.ErrClosed at the end of the connection, and ErrProtocol when the peer talks something else.
func (c *Conn) Read() (Frame, []*os.File, error) {
	for {
		f, files, ok, err := c.next()
		if ok || err != nil {
			if err != nil {
				c.drop()
			}
			return f, files, err
		}
		if err := c.fill(); err != nil {
			c.drop()
			return Frame{}, nil, err
		}
	}
}

// next takes one frame off what was received.
func (c *Conn) next() (f Frame, files []*os.File, ok bool, err error) {
	if len(c.in) < 4 {
		return f, nil, false, nil
	}
	size := int(binary.BigEndian.Uint32(c.in))
	if size > MaxFrame {
		return f, nil, false, fmt.Errorf("length %d: %w", size, ErrProtocol)
	}
	if len(c.in) < 4+size {
		return f, nil, false, nil
	}
	if err := json.Unmarshal(c.in[4:4+size], &f); err != nil {
		return f, nil, false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if f.Files < 0 || f.Files > len(c.files) {
		return f, nil, false, fmt.Errorf("%d files announced, %d came: %w", f.Files, len(c.files), ErrProtocol)
	}
	for _, fd := range c.files[:f.Files] {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	c.files = c.files[f.Files:]
	if c.in = c.in[4+size:]; len(c.in) == 0 {
		c.in = nil // an idle connection holds no memory
	}
	return f, files, true, nil
}

// fill waits for more bytes.
func (c *Conn) fill() error {
	var small [4096]byte
	var oob [1100]byte
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(small[:], oob[:])
	if err != nil {
		return err
	}
	if oobn > 0 {
		fds, err := rights(oob[:oobn])
		c.files = append(c.files, fds...)
		if err != nil {
			return err
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return fmt.Errorf("files were lost: %w", ErrProtocol)
	}
	if n == 0 && oobn == 0 {
		return net.ErrClosed
	}
	c.in = append(c.in, small[:n]...)
	return nil
}

func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	var all []int
	for _, m := range messages {
		if m.Header.Level != syscall.SOL_SOCKET || m.Header.Type != syscall.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return all, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		all = append(all, fds...)
	}
	return all, nil
}

// drop closes the files that no frame claimed.
func (c *Conn) drop() {
	for _, fd := range c.files {
		_ = unix.Close(fd)
	}
	c.files = nil
}

// ReceiveFile takes one file that the peer sends with any bytes, as OCI runtimes send a terminal.
func ReceiveFile(sock *net.UnixConn) (int, error) {
	var data [4096]byte
	var oob [256]byte
	_, n, _, _, err := sock.ReadMsgUnix(data[:], oob[:])
	if err != nil {
		return -1, err
	}
	fds, err := rights(oob[:n])
	if err == nil && len(fds) == 1 {
		return fds[0], nil
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return -1, errors.Join(ErrProtocol, err)
}
