package api

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	var wire bytes.Buffer
	WriteFrame(&wire, FrameStdin, []byte("hello"))
	WriteFrame(&wire, FrameCloseStdin, nil)
	WriteFrame(&wire, FrameResize, ResizePayload(24, 80))
	for _, want := range []struct {
		t       FrameType
		payload string
	}{{FrameStdin, "hello"}, {FrameCloseStdin, ""}, {FrameResize, "\x00\x18\x00\x50"}} {
		got, payload, err := ReadFrame(&wire, nil)
		if err != nil || got != want.t || string(payload) != want.payload {
			t.Errorf("got %d %q %v, want %d %q", got, payload, err, want.t, want.payload)
		}
	}
	if _, _, err := ReadFrame(&wire, nil); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{3, 0, 0, 0, 4, 0, 24, 0, 80})
	f.Add([]byte{9, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := bytes.NewReader(wire)
		var buf []byte
		for {
			kind, payload, err := ReadFrame(r, buf)
			if err != nil {
				if !errors.Is(err, ErrFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if kind > FrameExit || len(payload) > MaxFrame {
				t.Errorf("frame of type %d with %d bytes", kind, len(payload))
			}
			buf = payload
		}
	})
}
