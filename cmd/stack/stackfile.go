package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/load"
)

// memoryForSpeed lets the heap of a command that loads stack files grow to several times what is in use before it is
// collected: the command is over in a moment. The daemon doesn't come here.
const memoryForSpeed = 400

// loadOptions are the load that the global flags ask for; services are those that the user named.
func (c *cli) loadOptions(services []string) (load.Options, error) {
	debug.SetGCPercent(memoryForSpeed)
	dir, err := os.Getwd()
	if err != nil {
		return load.Options{}, err
	}
	return load.Options{
		Files:            c.files,
		ProjectDirectory: c.projectDirectory,
		ProjectName:      c.projectName,
		Profiles:         c.profiles,
		EnvFiles:         c.envFiles,
		Environ:          os.Environ(),
		WorkingDir:       dir,
		Stdin:            c.in,
		Services:         services,
		AllResources:     c.allResources,
	}, nil
}

// load reads the stack files in order to make something of them, and prints what there is to warn of.
func (c *cli) load(ctx context.Context, services []string) (*spec.Stack, error) {
	o, err := c.loadOptions(services)
	if err != nil {
		return nil, err
	}
	result, err := c.cached(ctx, o)
	if err != nil {
		return nil, err
	}
	ui.PrintDiagnostics(c.err, result.Warnings, c.colorOn(c.err))
	return result.Stack, nil
}

// cached loads through the cache, which makes a command on an unchanged stack cheap.
func (c *cli) cached(ctx context.Context, o load.Options) (*load.Result, error) {
	dir := filepath.Join(c.root, "cache")
	if os.Geteuid() != 0 {
		user, err := os.UserCacheDir()
		if err != nil {
			return load.Load(ctx, o) // nowhere to keep it
		}
		dir = filepath.Join(user, "stack")
	}
	return load.Cached(ctx, dir, version, o)
}

// named finds the stack that a command on what runs is about: the one that -p or COMPOSE_PROJECT_NAME names, or the stack
// file's. The stack is nil where its file was not needed; services are those that the user named.
func (c *cli) named(ctx context.Context, services []string) (name string, stack *spec.Stack, err error) {
	if len(c.files) == 0 && c.projectName != "" {
		return c.projectName, nil, checkName(c.projectName)
	}
	o, err := c.loadOptions(services)
	if err != nil {
		return "", nil, err
	}
	o.Observing = true
	result, err := c.cached(ctx, o)
	if err != nil {
		if name := os.Getenv("COMPOSE_PROJECT_NAME"); name != "" && c.projectName == "" && len(c.files) == 0 {
			return name, nil, checkName(name)
		}
		return "", nil, err
	}
	return result.Stack.Name, result.Stack, nil
}

// onStack finds the stack that a command on what runs is about, and the daemon that has it; the caller closes that.
func (c *cli) onStack(ctx context.Context, services []string) (name string, d *client.Client, err error) {
	name, _, err = c.named(ctx, services)
	if err != nil {
		return "", nil, err
	}
	d, err = c.daemon(ctx)
	return name, d, err
}

func checkName(name string) error {
	if good := spec.NormalizeName(name); good != name {
		return fmt.Errorf("%q can't be the name of a stack: lower-case letters, digits, dashes and underscores make one, after a letter or digit (such as %q)", name, good)
	}
	return nil
}

// completeServices offers the services of the stack file to the shell.
func (c *cli) completeServices(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	_, stack, err := c.named(cmd.Context(), nil)
	if err != nil || stack == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(stack.Services)+len(stack.Disabled))
	for name := range stack.Services {
		names = append(names, name)
	}
	for name := range stack.Disabled {
		names = append(names, name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// switchedOn tells whether an environment variable says yes, in one of the ways that Compose takes for it.
func switchedOn(variable string) bool {
	on, err := strconv.ParseBool(os.Getenv(variable))
	return err == nil && on
}
