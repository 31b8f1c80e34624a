package client

import (
	"context"
	"net/url"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

func repositoryPath(name, rest string) string { return "/gitops/" + url.PathEscape(name) + rest }

// Repositories lists what is followed.
func (c *Client) Repositories(ctx context.Context) (list api.Repositories, err error) {
	return list, c.call(ctx, "GET", "/gitops", nil, nil, &list)
}

// Repository is all that is known of one.
func (c *Client) Repository(ctx context.Context, name string) (r status.Repository, err error) {
	return r, c.call(ctx, "GET", repositoryPath(name, ""), nil, nil, &r)
}

// AddRepository follows one more, or with replace one anew.
func (c *Client) AddRepository(ctx context.Context, def declare.Repository, replace bool) error {
	return c.call(ctx, "PUT", repositoryPath(def.Name, ""), yes(replace, "replace"), def, nil)
}

// RemoveRepository stops following one, and with down takes its stacks down.
func (c *Client) RemoveRepository(ctx context.Context, name string, down, volumes bool) error {
	q := url.Values{}
	if down {
		q.Set("down", "true")
	}
	if volumes {
		q.Set("volumes", "true")
	}
	return c.call(ctx, "DELETE", repositoryPath(name, ""), q, nil, nil)
}

// SyncRepository reconciles one now and returns what came of it.
func (c *Client) SyncRepository(ctx context.Context, name string, req api.SyncRequest) (r status.Repository, err error) {
	return r, c.call(ctx, "POST", repositoryPath(name, "/sync"), nil, req, &r)
}

// SuspendRepository leaves one's stacks alone, or goes on with them.
func (c *Client) SuspendRepository(ctx context.Context, name string, suspended bool) error {
	verb := "/resume"
	if suspended {
		verb = "/suspend"
	}
	return c.call(ctx, "POST", repositoryPath(name, verb), nil, nil, nil)
}
