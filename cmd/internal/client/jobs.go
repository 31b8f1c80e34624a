package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Jobs lists a stack's jobs with their kept runs.
func (c *Client) Jobs(ctx context.Context, stack string) (jobs []api.Job, err error) {
	return jobs, c.call(ctx, "GET", stackPath(stack, "jobs"), nil, nil, &jobs)
}

// RunJob begins a run of a job and returns its number.
func (c *Client) RunJob(ctx context.Context, stack, job string) (number int, err error) {
	return number, c.call(ctx, "POST", stackPath(stack, "jobs", job, "runs"), nil, nil, &number)
}

// WaitJobRun waits until a run is over, or an attempt after the given one has begun.
func (c *Client) WaitJobRun(ctx context.Context, stack, job string, number, after int) (run api.JobRun, err error) {
	q := url.Values{"after": {strconv.Itoa(after)}}
	return run, c.call(ctx, "POST", stackPath(stack, "jobs", job, "runs", strconv.Itoa(number), "wait"), q, nil, &run)
}
