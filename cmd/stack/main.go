// Command stack runs Compose files without Docker and keeps them running: the command line, and with `stack daemon` the
// daemon behind it. Each verb has a file of its own.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

// version is stamped by the build.
var version = "dev"

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	c := newCLI(in, out, errOut)
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	return c.exitCode(err)
}

// exitError ends the command with a code. Its error, where there is one, is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "" // the code says it all
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exit ends the command with a code and without a word.
func exit(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// interrupted is the exit code after Ctrl-C: 128 plus SIGINT.
const interrupted = 130

// exitCode prints err and says how the command ends.
func (c *cli) exitCode(err error) int {
	var wanted *exitError
	var failed *api.Error
	code := 1
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled), errors.As(err, &failed) && failed.Code == api.Canceled:
		return interrupted
	case errors.As(err, &wanted):
		if wanted.err == nil {
			return wanted.code
		}
		code = wanted.code
	case failed != nil && failed.ExitCode != 0:
		code = failed.ExitCode
	}
	if ui.Mode(c.progressMode) == ui.JSON {
		ui.PrintErrorJSON(c.err, err)
	} else {
		ui.PrintError(c.err, err, c.colorOn(c.err))
	}
	return code
}
