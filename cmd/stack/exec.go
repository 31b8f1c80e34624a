package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) execCommand() *cobra.Command {
	var request api.ExecRequest
	var noTTY bool
	cmd := &cobra.Command{
		Use:               "exec SERVICE COMMAND [ARG...]",
		Short:             "Run a command in a running container",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: c.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.verb(func(ctx context.Context, args []string) error {
				request.Service, request.Args = args[0], args[1:]
				request.TTY = c.wantsTTY(cmd, noTTY) && !request.Detach
				request.Env = fromEnvironment(request.Env)
				return c.exec(ctx, request)
			})(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // flags after the service are the command's
	flags.BoolVarP(&request.Detach, "detach", "d", false, "Leave it running in the background")
	flags.StringArrayVarP(&request.Env, "env", "e", nil, "Set a variable: NAME=value, or NAME for this shell's value")
	flags.IntVar(&request.Index, "index", 0, "Number of the replica")
	flags.BoolVar(&request.Privileged, "privileged", false, "With all privileges")
	flags.StringVarP(&request.User, "user", "u", "", "Run as this user")
	flags.StringVarP(&request.Cwd, "workdir", "w", "", "Working directory in the container")
	flags.BoolVarP(&noTTY, "no-tty", "T", false, "Without a terminal (default: with one when on one)")
	flags.BoolVarP(&request.Interactive, "interactive", "i", true, "With standard input")
	flags.BoolP("tty", "t", true, "Accepted: a terminal is the default on a terminal")
	for _, name := range []string{"interactive", "tty"} {
		flags.MarkHidden(name)
	}
	return cmd
}

// wantsTTY tells whether a command in a container gets a terminal: on a terminal, unless -T says no.
func (c *cli) wantsTTY(cmd *cobra.Command, no bool) bool {
	if cmd.Flags().Changed("no-tty") || cmd.Flags().Changed("no-TTY") {
		return !no
	}
	return ui.IsTerminal(c.in) && ui.IsTerminal(c.out)
}

func (c *cli) exec(ctx context.Context, request api.ExecRequest) error {
	name, d, err := c.onStack(ctx, []string{request.Service})
	if err != nil {
		return err
	}
	defer d.Close()
	if request.Detach {
		return d.ExecDetached(ctx, name, request)
	}
	if request.TTY {
		request.Cols, request.Rows = c.terminalSize()
	}
	session, err := d.Exec(ctx, name, request)
	if err != nil {
		return err
	}
	code, err := c.converse(session, request.Interactive, request.TTY)
	if err != nil {
		return err
	}
	return exit(code)
}

// fromEnvironment gives variables without a value this process's; those that are not set are dropped.
func fromEnvironment(variables []string) []string {
	var set []string
	for _, variable := range variables {
		if name, _, hasValue := strings.Cut(variable, "="); !hasValue {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			variable = name + "=" + value
		}
		set = append(set, variable)
	}
	return set
}
