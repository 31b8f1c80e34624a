package wire_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stack-run/stack/runtime/shim/internal/wire"
)

// pair connects two ends by a real socket.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestFramesAndTheirFiles(t *testing.T) {
	for _, n := range []int{0, 1, 3, 253, 254, 600} {
		t.Run(fmt.Sprintf("%d files", n), func(t *testing.T) {
			a, b := pair(t)
			from, to := wire.New(a), wire.New(b)
			dir := t.TempDir()
			var files []*os.File
			for i := range n {
				f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				files = append(files, f)
			}
			sent := make(chan error, 1)
			go func() {
				err := from.Write(wire.Frame{ID: 1, Op: "before"})
				for range 2 {
					err = errors.Join(err, from.Write(wire.Frame{ID: 2, Op: "with"}, files...))
				}
				sent <- errors.Join(err, from.Write(wire.Frame{ID: 3, Body: make([]byte, 0)}))
			}()
			for _, want := range []struct {
				id    uint64
				files int
			}{{1, 0}, {2, n}, {2, n}, {3, 0}} {
				f, got, err := to.Read()
				if err != nil || f.ID != want.id || len(got) != want.files {
					t.Fatalf("frame %+v with %d files, %v", f, len(got), err)
				}
				for i, file := range got {
					a, err1 := file.Stat()
					b, err2 := files[i].Stat()
					if err1 != nil || err2 != nil || !os.SameFile(a, b) {
						t.Errorf("file %d is another", i)
					}
					file.Close()
				}
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	frame := func(body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	f.Add(frame(`{"id":1,"op":"list"}`))
	f.Add(frame(`{"id":1,"files":3}`))
	f.Add(frame(`{"files":-1}`))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := pair(t)
		if _, err := a.Write(data); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if err := b.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		c := wire.New(b)
		for {
			got, files, err := c.Read()
			if err != nil {
				if !errors.Is(err, wire.ErrProtocol) && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					t.Fatal(err)
				}
				return
			}
			if len(files) != 0 || got.Files != 0 {
				t.Fatalf("files from nowhere: %+v", got)
			}
		}
	})
}
