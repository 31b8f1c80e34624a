package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/daemon"
	"github.com/stack-run/stack/cmd/internal/hostconfig"
)

func (c *cli) daemonCommand() *cobra.Command {
	var stop bool
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the daemon in the foreground",
		Long:  "Run the daemon in the foreground. Other commands start one in the background when none runs.\nContainers go on when it ends.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stop {
				return c.verb(c.stopDaemon)(cmd, nil)
			}
			return c.runDaemon(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&stop, "stop", false, "End the daemon that runs; containers go on")
	return cmd
}

func (c *cli) runDaemon(ctx context.Context) (err error) {
	started := client.Started() // Reporter takes the variable away
	report := client.Reporter()
	defer func() { report(err) }()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := hostconfig.Load(hostconfig.Path())
	if err != nil {
		return err
	}
	ready := func() { report(nil) }
	if !started && os.Geteuid() == 0 { // Run tells others that it needs root
		unlock, err := client.LockStart(ctx, c.runDir)
		if err != nil {
			return err
		}
		defer unlock()
		ready = unlock
	}
	return daemon.Run(ctx, daemon.Options{
		Root:    c.root,
		RunDir:  c.runDir,
		Config:  config,
		Version: version,
		Ready:   ready,
	})
}

func (c *cli) stopDaemon(ctx context.Context, _ []string) error {
	runDir, err := filepath.Abs(c.runDir)
	if err != nil {
		return err
	}
	d, err := client.Dial(ctx, client.Socket(runDir))
	if errors.Is(err, client.ErrNotRunning) {
		fmt.Fprintln(c.err, "No daemon is running.")
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Info(ctx)
	if err != nil {
		return err
	}
	gone, err := whenGone(ctx, info.PID)
	if err != nil {
		return err
	}
	if err := d.Shutdown(ctx); err != nil {
		return err
	}
	return gone()
}

// whenGone returns what waits for a process to end, so that what follows finds nothing of it: no lock, no socket.
func whenGone(ctx context.Context, pid int) (wait func() error, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	wake, waker, err := os.Pipe()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return func() error {
		defer unix.Close(fd)
		defer wake.Close()
		defer context.AfterFunc(ctx, func() { waker.Close() })()
		for {
			// Both are readable once: the process when it has ended, the pipe when ctx has.
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				return errors.Join(err, ctx.Err())
			}
		}
	}, nil
}
