package daemon

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// PauseEnv makes the daemon stand still after so many actions, for tests of what a crash at that very moment leaves:
// "3:/file" makes the file after the third action, and goes on when somebody has removed it.
const PauseEnv = "STACK_PAUSE_AFTER"

// pauseAfter is what the reconciler calls after each action; nil where the environment asks for no pause.
func pauseAfter(ctx context.Context) func() {
	number, file, ok := strings.Cut(os.Getenv(PauseEnv), ":")
	at, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return nil
	}
	var done atomic.Int64
	return func() {
		if done.Add(1) != at || os.WriteFile(file, nil, 0o600) != nil {
			return
		}
		for ctx.Err() == nil {
			if _, err := os.Stat(file); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}
