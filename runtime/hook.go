package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/stack-run/stack/runtime/shim"
)

// Hook runs a lifecycle hook in a running container, its output going to the container's log, and returns its exit code.
// ExecID makes it one and the same: where an earlier daemon has started it, its end is waited for. When ctx ends the hook
// goes on.
func (e *Engine) Hook(ctx context.Context, req shim.ExecRequest) (int, error) {
	s, v, err := e.running(ctx, req.ID)
	if err != nil {
		return 0, err
	}
	x, err := s.client.Exec(ctx, req, [3]*os.File{})
	code := 0
	switch {
	case err == nil:
		code, err = x.Wait(ctx)
	case errors.Is(err, shim.ErrConflict):
		var waiting error
		if code, waiting = s.client.Attached(req.ID, req.ExecID).Wait(ctx); !errors.Is(waiting, shim.ErrNotFound) {
			err = waiting
		}
	}
	if err != nil {
		return 0, fmt.Errorf("%s in container %s: %w", req.Hook, v.Name, err)
	}
	return code, nil
}

// KillHook ends a hook that takes too long.
func (e *Engine) KillHook(ctx context.Context, id, execID string) {
	s, _, err := e.running(ctx, id)
	if err != nil {
		return // and so has the hook
	}
	ctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	x := s.client.Attached(id, execID)
	_ = x.Signal(ctx, syscall.SIGKILL) // it may have ended just now
	_, _ = x.Wait(ctx)
}

// killPatience is how long a killed exec is waited for.
const killPatience = 5 * time.Second
