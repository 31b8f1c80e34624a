package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Upgrade is the protocol that exec and attach switch to: HTTP/1.1 with "Upgrade: stack-stream", answered by 101. From
// then on both ends send frames: one byte of type, four bytes of length (big-endian), the payload.
const Upgrade = "stack-stream"

// FrameType says what a frame's payload is.
type FrameType byte

// Frames that the client sends are Stdin, Resize and CloseStdin; the server sends Stdout, Stderr and, as its last, Exit.
const (
	FrameStdin      FrameType = iota // bytes
	FrameStdout                      // bytes
	FrameStderr                      // bytes
	FrameResize                      // rows and columns, two bytes each, big-endian
	FrameCloseStdin                  // empty
	FrameExit                        // SessionExit as JSON
)

// MaxFrame is the longest payload that either end accepts.
const MaxFrame = 1 << 20

// ErrFrame is what errors about malformed frames wrap.
var ErrFrame = errors.New("malformed frame")

// SessionExit is the payload of FrameExit.
type SessionExit struct {
	Code  int    `json:"code"`
	Error *Error `json:"error,omitempty"`
}

// WriteFrame sends one frame in one write.
func WriteFrame(w io.Writer, t FrameType, payload []byte) error {
	frame := make([]byte, 5, 5+len(payload))
	frame[0] = byte(t)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	_, err := w.Write(append(frame, payload...))
	return err
}

// ReadFrame reads the next frame into buf, which it grows when needed; the payload is valid until buf is used again.
// Errors are those of r (io.EOF between two frames) or wrap ErrFrame.
func ReadFrame(r io.Reader, buf []byte) (FrameType, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	t, size := FrameType(head[0]), binary.BigEndian.Uint32(head[1:])
	if t > FrameExit {
		return 0, nil, fmt.Errorf("%w: unknown type %d", ErrFrame, t)
	}
	if size > MaxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes are more than %d", ErrFrame, size, MaxFrame)
	}
	if int(size) > cap(buf) {
		buf = make([]byte, size)
	}
	payload := buf[:size]
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("%w: cut off: %w", ErrFrame, err)
	}
	return t, payload, nil
}

// ResizePayload is the payload of a FrameResize.
func ResizePayload(rows, cols uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, rows), cols)
}

// ParseResize reads what ResizePayload made.
func ParseResize(payload []byte) (rows, cols uint16, err error) {
	if len(payload) != 4 {
		return 0, 0, fmt.Errorf("%w: a size of %d bytes", ErrFrame, len(payload))
	}
	return binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]), nil
}

// WriteExit sends the last frame of a session.
func WriteExit(w io.Writer, exit SessionExit) error {
	payload, err := json.Marshal(exit)
	if err != nil {
		return err
	}
	return WriteFrame(w, FrameExit, payload)
}
