package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/stack-run/stack/cmd/internal/api"
)

// operation sends a request whose answer is a stream of events, hands each to on, and returns the result that ends it.
func (c *Client) operation(ctx context.Context, path string, query url.Values, body any, on func(api.Event)) (api.Result, error) {
	resp, err := c.request(ctx, "POST", path, query, body, nil)
	if err != nil {
		return api.Result{}, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var e api.Event
		if err := lines.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return api.Result{}, ctx.Err()
			}
			return api.Result{}, fmt.Errorf("%w: %w", errLost, err)
		}
		if e.Kind != "result" {
			on(e)
			continue
		}
		var result api.Result
		if e.Result != nil {
			result = *e.Result
		}
		if e.Error != nil {
			return result, e.Error
		}
		return result, nil
	}
}

// stream hands each value of a stream to on, until it ends or on returns an error.
func stream[T any](ctx context.Context, c *Client, method, path string, body any, on func(T) error) error {
	resp, err := c.request(ctx, method, path, nil, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var value T
		err := lines.Decode(&value)
		switch {
		case errors.Is(err, io.EOF):
			return trailer(resp.Trailer.Get(api.ErrorTrailer))
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w", errLost, err)
		}
		if err := on(value); err != nil {
			return err
		}
	}
}

// trailer is the error that ended a stream, nil for none.
func trailer(text string) error {
	if text == "" {
		return nil
	}
	var e api.Error
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return &e
}
