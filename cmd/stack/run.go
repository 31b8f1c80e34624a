package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mattn/go-shellwords"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

type runFlags struct {
	detach        bool
	remove        bool
	env           []string
	envFiles      []string
	labels        []string
	volumes       []string
	publish       []string
	servicePorts  bool
	useAliases    bool
	name          string
	user          string
	workdir       string
	entrypoint    string
	noTTY         bool
	interactive   bool
	noDeps        bool
	capAdd        []string
	capDrop       []string
	build         bool
	pull          string
	quietPull     bool
	quiet         bool
	removeOrphans bool

	entrypointGiven bool
}

func (c *cli) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:               "run SERVICE [COMMAND] [ARG...]",
		Short:             "Run a command in a new container of a service",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeServices,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			f.entrypointGiven = cmd.Flags().Changed("entrypoint")
			return f.check()
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runOneOff(cmd.Context(), f, c.wantsTTY(cmd, f.noTTY), args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // flags after the service are the command's
	flags.BoolVarP(&f.detach, "detach", "d", false, "Leave it running in the background and print the container's id")
	flags.BoolVar(&f.remove, "rm", false, "Remove the container when it exits")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "Set a variable: NAME=value, or NAME for this shell's value")
	flags.StringArrayVar(&f.envFiles, "env-from-file", nil, "Set variables from a file")
	flags.StringArrayVarP(&f.labels, "label", "l", nil, "Add a label: NAME=value")
	flags.StringArrayVarP(&f.volumes, "volume", "v", nil, "Mount a volume or path: SOURCE:TARGET[:ro]")
	flags.StringArrayVarP(&f.publish, "publish", "p", nil, "Publish a port: [[IP:]PUBLISHED:]TARGET[/udp]")
	flags.BoolVarP(&f.servicePorts, "service-ports", "P", false, "Publish the service's ports")
	flags.BoolVar(&f.useAliases, "use-aliases", false, "Answer to the service's names in its networks")
	flags.StringVar(&f.name, "name", "", "Name of the container")
	flags.StringVarP(&f.user, "user", "u", "", "Run as this user")
	flags.StringVarP(&f.workdir, "workdir", "w", "", "Working directory in the container")
	flags.StringVar(&f.entrypoint, "entrypoint", "", "Instead of the image's entrypoint")
	flags.BoolVarP(&f.noTTY, "no-tty", "T", false, "Without a terminal (default: with one when on one)")
	flags.BoolVar(&f.noTTY, "no-TTY", false, "Without a terminal")
	flags.BoolVarP(&f.interactive, "interactive", "i", true, "With standard input")
	flags.BoolP("tty", "t", true, "Accepted: a terminal is the default on a terminal")
	flags.BoolVar(&f.noDeps, "no-deps", false, "Don't start what the service depends on")
	flags.StringArrayVar(&f.capAdd, "cap-add", nil, "Add a capability")
	flags.StringArrayVar(&f.capDrop, "cap-drop", nil, "Drop a capability")
	flags.BoolVar(&f.build, "build", false, "Build the image before (not supported yet)")
	flags.StringVar(&f.pull, "pull", "policy", "Pull the image: always, missing, never, or as the stack file's policy says")
	flags.BoolVar(&f.quietPull, "quiet-pull", false, "Pull without progress")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Without progress")
	flags.BoolVar(&f.removeOrphans, "remove-orphans", false, "Remove containers of services that the stack file has no more")
	for _, name := range []string{"no-TTY", "tty"} {
		flags.MarkHidden(name)
	}
	return cmd
}

func (f *runFlags) check() error {
	switch {
	case f.build:
		return errors.New("--build: image builds are not supported yet")
	case len(f.publish) > 0 && f.servicePorts:
		return errors.New("--service-ports and --publish are incompatible")
	}
	return checkPull(f.pull)
}

// apply is the service as the command line wants it.
func (f *runFlags) apply(stack *spec.Stack, service spec.Service, command []string, tty bool) (spec.Service, error) {
	if len(command) > 0 {
		service.Command = &command
	}
	if f.entrypointGiven {
		words, err := shellwords.Parse(f.entrypoint)
		if err != nil {
			return service, fmt.Errorf("--entrypoint: %w", err)
		}
		service.Entrypoint = &words
		if len(command) == 0 {
			service.Command = &[]string{} // the image's command belongs to the image's entrypoint
		}
	}
	environment, err := f.environment()
	if err != nil {
		return service, err
	}
	service.Environment = merged(service.Environment, environment)
	labels, err := parsePairs(f.labels)
	if err != nil {
		return service, fmt.Errorf("--label: %w", err)
	}
	service.Labels = merged(service.Labels, labels)
	if !f.servicePorts {
		service.Ports = nil
	}
	for _, text := range f.publish {
		ports, err := parsePort(text)
		if err != nil {
			return service, err
		}
		service.Ports = append(service.Ports, ports...)
	}
	for _, text := range f.volumes {
		mount, err := parseMount(text, stack.WorkingDir)
		if err != nil {
			return service, err
		}
		service.Mounts = withMount(service.Mounts, mount)
	}
	service.User = orDefault(f.user, service.User)
	service.WorkingDir = orDefault(f.workdir, service.WorkingDir)
	service.CapAdd = append(append([]string{}, service.CapAdd...), f.capAdd...)
	service.CapDrop = append(append([]string{}, service.CapDrop...), f.capDrop...)
	service.TTY = tty
	service.StdinOpen = f.interactive && !f.detach
	service.ContainerName = ""
	service.Replicas = 1
	service.Restart = spec.Restart{Condition: spec.RestartNo}
	return service, nil
}

func (c *cli) runOneOff(ctx context.Context, f runFlags, tty bool, name string, command []string) error {
	stack, err := c.load(ctx, []string{name})
	if err != nil {
		return err
	}
	declared := stack.Services[name]
	if job := stack.Jobs[name]; job != nil {
		if !job.AllowsManual() {
			return fmt.Errorf("the job %s may not be run by hand: its triggers say `manual: false`", name)
		}
		stack, declared = stack.With(job), &job.Service
	}
	if declared == nil {
		return fmt.Errorf("no such service: %s", name)
	}
	tty = tty && !f.detach
	service, err := f.apply(stack, *declared, command, tty)
	if err != nil {
		return err
	}
	request := api.RunRequest{
		Stack:        declareVolumes(stack, service.Mounts),
		Service:      service,
		Name:         f.name,
		NoDeps:       f.noDeps,
		Remove:       f.remove,
		ServicePorts: f.servicePorts || len(f.publish) > 0,
		UseAliases:   f.useAliases,
		Pull:         pullOption(f.pull),
		Attach:       !f.detach,
	}
	d, err := c.daemon(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if c.dryRun {
		_, err := c.showPlan(ctx, d, api.UpRequest{Stack: stack, Options: planner.Options{Services: []string{name}, NoDeps: f.noDeps}})
		return err
	}
	id, err := c.makeOneOff(ctx, d, request, f)
	if err != nil || f.detach {
		return err
	}
	return c.converseOneOff(ctx, d, stack.Name, id, f, tty)
}

// makeOneOff has the container made, and what it depends on started.
func (c *cli) makeOneOff(ctx context.Context, d *client.Client, request api.RunRequest, f runFlags) (id string, err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	progress := c.progress("run")
	show := progress.Event
	if f.quiet {
		show = func(api.Event) {}
	}
	result, err := d.Run(ctx, request, show)
	progress.Close()
	if err != nil {
		if ctx.Err() != nil {
			return "", exit(interrupted)
		}
		return "", err
	}
	if f.detach {
		fmt.Fprintln(c.out, result.Container)
	}
	return result.Container, nil
}

// converseOneOff starts the container by attaching to it. Signals go to the container, as they would to a program started
// here; with a terminal Ctrl-C is a key like any other.
func (c *cli) converseOneOff(ctx context.Context, d *client.Client, stack, id string, f runFlags, tty bool) error {
	session, err := d.Attach(ctx, stack, id, f.interactive)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				d.Signal(ctx, stack, id, unix.SignalName(s.(syscall.Signal))) // fails when it has just ended
			case <-done:
				return
			}
		}
	}()
	code, err := c.converse(session, f.interactive, tty)
	signal.Stop(signals)
	close(done)
	if err != nil {
		return err
	}
	if f.remove { // the daemon does so as well, should this command be killed; here it is gone when the command returns
		if err := d.RemoveContainer(ctx, stack, id, true, true); err != nil && !isNotFound(err) {
			return err
		}
	}
	return exit(code)
}

// environment is what -e and --env-from-file set.
func (f *runFlags) environment() (map[string]string, error) {
	fromFiles, err := readEnvFiles(f.envFiles)
	if err != nil {
		return nil, err
	}
	given, err := parsePairs(fromEnvironment(f.env))
	if err != nil {
		return nil, fmt.Errorf("--env: %w", err)
	}
	return merged(fromFiles, given), nil
}

// parsePairs reads NAME=value; NAME alone has an empty value.
func parsePairs(texts []string) (map[string]string, error) {
	pairs := map[string]string{}
	for _, text := range texts {
		name, value, _ := strings.Cut(text, "=")
		if name == "" {
			return nil, fmt.Errorf("%q has no name; write NAME=value", text)
		}
		pairs[name] = value
	}
	return pairs, nil
}

// merged is a new map of both; over wins.
func merged(base, over map[string]string) map[string]string {
	all := make(map[string]string, len(base)+len(over))
	for _, m := range []map[string]string{base, over} {
		for key, value := range m {
			all[key] = value
		}
	}
	return all
}
