package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
)

// errDeclined ends a command whose question was not answered with yes.
var errDeclined = errors.New("not confirmed; nothing was done")

// confirm shows the plan of a request and asks whether to do it. What is confirmed is what is done: the request is refused when
// something has moved since.
func (c *cli) confirm(ctx context.Context, d *client.Client, request *api.UpRequest, yes bool) error {
	if !yes && !ui.IsTerminal(c.in) {
		return errors.New("--confirm asks on a terminal, and there is none; add -y to go on without being asked")
	}
	plan, err := c.showPlan(ctx, d, *request)
	if err != nil {
		return err
	}
	if request.Expect == nil {
		request.Expect = plan.Basis
	}
	if yes || plan.Empty() {
		return nil
	}
	fmt.Fprint(c.err, "Do this? [y/N] ")
	answer := make(chan string, 1)
	go func() { // a read of a terminal can't be cancelled: Ctrl-C is not to wait for it
		line, _ := bufio.NewReader(c.in).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return errDeclined
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return ctx.Err()
	}
}
