package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Session is a command in a container with its streams. Write, CloseStdin and Resize may be called while Copy runs.
type Session struct {
	conn io.ReadWriteCloser
	mu   sync.Mutex // one frame at a time
	free func() bool
}

func (c *Client) session(ctx context.Context, path string, query url.Values, body any) (*Session, error) {
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {api.Upgrade}}
	resp, err := c.request(ctx, "POST", path, query, body, header)
	if err != nil {
		return nil, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		resp.Body.Close()
		return nil, fmt.Errorf("the daemon does not speak %s: %s", api.Upgrade, resp.Status)
	}
	return &Session{conn: conn, free: context.AfterFunc(ctx, func() { conn.Close() })}, nil
}

// Write sends input to the command.
func (s *Session) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, api.MaxFrame)
		if err := s.send(api.FrameStdin, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

// CloseStdin tells the command that no more input comes.
func (s *Session) CloseStdin() error { return s.send(api.FrameCloseStdin, nil) }

// Resize tells the size of the terminal.
func (s *Session) Resize(rows, cols uint16) error {
	return s.send(api.FrameResize, api.ResizePayload(rows, cols))
}

func (s *Session) send(t api.FrameType, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return api.WriteFrame(s.conn, t, payload)
}

// Copy writes what the command prints until it ends, and returns its exit code.
func (s *Session) Copy(stdout, stderr io.Writer) (exitCode int, err error) {
	in := bufio.NewReaderSize(s.conn, 64<<10)
	var buf []byte
	for {
		t, payload, err := api.ReadFrame(in, buf)
		if err != nil {
			if errors.Is(err, api.ErrFrame) {
				return 0, err
			}
			return 0, fmt.Errorf("%w: %w", errLost, err)
		}
		buf = payload[:cap(payload)]
		switch t {
		case api.FrameStdout:
			_, err = stdout.Write(payload)
		case api.FrameStderr:
			_, err = stderr.Write(payload)
		case api.FrameExit:
			var exit api.SessionExit
			if err := json.Unmarshal(payload, &exit); err != nil {
				return 0, fmt.Errorf("%w: %w", api.ErrFrame, err)
			}
			if exit.Error != nil {
				return exit.Code, exit.Error
			}
			return exit.Code, nil
		default:
			err = fmt.Errorf("%w: type %d from a server", api.ErrFrame, t)
		}
		if err != nil {
			return 0, err
		}
	}
}

// Close lets go of the command, which goes on or ends as the daemon sees fit.
func (s *Session) Close() error {
	s.free()
	return s.conn.Close()
}
