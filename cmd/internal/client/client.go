// Package client is the command's end of the API: one method for each request, and Ensure, which starts the daemon where
// none is listening.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/stack-run/stack/cmd/internal/api"
)

// ErrNotRunning means that no daemon listens on the socket.
var ErrNotRunning = errors.New("no daemon is running")

// Client speaks to one daemon. It is safe for concurrent use. Errors of its methods that the daemon reported are an
// *api.Error.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client for the daemon at socket without connecting.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext:        dial,
		DisableCompression: true,
		MaxIdleConns:       1,
	}}}
}

// Dial makes a client and checks that a daemon accepts connections. The error wraps ErrNotRunning when none does.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, dialError(socket, err)
	}
	// The connection that proved the daemon alive carries the first request.
	c := New(socket)
	first := make(chan net.Conn, 1)
	first <- conn
	again := c.http.Transport.(*http.Transport).DialContext
	c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		select {
		case conn := <-first:
			return conn, nil
		default:
			return again(ctx, network, address)
		}
	}
	return c, nil
}

func dialError(socket string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w", socket, ErrNotRunning)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return &api.Error{Code: api.Denied, Message: "may not open " + socket, Remedy: "run the command as root"}
	}
	return err
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request sends one request; body is sent as JSON unless it is an io.Reader or nil. The response is of status 2xx or 101.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body any, header http.Header) (*http.Response, error) {
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		content = b
	default:
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	address := "http://stack/" + api.Version + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, dialError(c.socket, op)
		}
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// errLost means that the daemon ended, or was ended, in the middle of a request.
var errLost = errors.New("the daemon ended in the middle of the request; run the command again, or see the daemon's log")

// IsLost tells that the daemon ended in the middle of a request, or that none listens.
func IsLost(err error) bool { return errors.Is(err, errLost) || errors.Is(err, ErrNotRunning) }

func readError(resp *http.Response) error {
	var e api.Error
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Code == "" {
		return &api.Error{Code: api.Internal, Message: fmt.Sprintf("the daemon answers %s: %s", resp.Status, bytes.TrimSpace(text))}
	}
	return &e
}

// call sends a request and decodes its one-value answer; out may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	resp, err := c.request(ctx, method, path, query, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		out = new(json.RawMessage)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

func yes(on bool, name string) url.Values {
	if !on {
		return nil
	}
	return url.Values{name: {"true"}}
}
