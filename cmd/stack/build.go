package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// Stack builds no images by itself. A service's `x-stack: {build: COMMAND}` names a command that does, and loads the image
// under the service's name for it: it runs in the stack's folder, on this host, as the user who asks.

// buildable tells whether a command makes the service's image.
func buildable(s *spec.Service) bool { return s.Policy != nil && s.Policy.Build != "" }

// buildOptions say what to build and where what is printed goes.
type buildOptions struct {
	stack    *spec.Stack
	services []string
	quiet    bool
	output   func(service string) io.WriteCloser
	replaced func(image string) // told of ids that an image's name stands for no more; may be nil
}

// build runs the commands of services, each command once however many services share its image.
func (c *cli) build(ctx context.Context, d *client.Client, o buildOptions) error {
	type work struct{ image, command string }
	var done []work
	slices.Sort(o.services)
	for _, name := range o.services {
		s := o.stack.Services[name]
		if s == nil || !buildable(s) || slices.Contains(done, work{s.Image, s.Policy.Build}) {
			continue
		}
		done = append(done, work{s.Image, s.Policy.Build})
		before, err := imageID(ctx, d, s.Image)
		if err != nil {
			return err
		}
		if err := c.runBuild(ctx, o, s); err != nil {
			return &api.Error{Code: api.Failed, Address: spec.ServiceAddress(name).String(), Message: fmt.Sprintf("build: %s: %v", s.Policy.Build, err)}
		}
		after, err := imageID(ctx, d, s.Image)
		if err != nil {
			return err
		}
		if after == "" {
			return &api.Error{Code: api.NotFound, Address: spec.ServiceAddress(name).String(),
				Message: fmt.Sprintf("build: %s: the command has ended, and there is no image %s", s.Policy.Build, s.Image),
				Remedy:  "let the command load it: stack image load --name " + s.Image + " -i FILE"}
		}
		if before != "" && before != after && o.replaced != nil {
			o.replaced(before)
		}
	}
	return nil
}

// errNothingToBuild refuses --build where no command makes an image.
var errNothingToBuild = errors.New("--build: image builds are not supported yet; give services `x-stack: {build: COMMAND}` with a command that builds and loads their image")

// building is what prepareImages would do, for a plan.
func (f convergeFlags) building(stack *spec.Stack, services []string) (planner.Building, error) {
	if f.noBuild {
		return planner.BuildNothing, nil
	}
	names, err := f.builds(stack, services)
	switch {
	case err != nil:
		return "", err
	case len(names) > 0 && f.build:
		return planner.BuildAll, nil
	case len(names) > 0:
		return planner.BuildMissing, nil
	case f.build:
		return "", errNothingToBuild
	}
	return planner.BuildNothing, nil
}

// builds are the services of an up whose images commands make.
func (f convergeFlags) builds(stack *spec.Stack, services []string) (names []string, err error) {
	selected, err := stack.Select(services, !f.noDeps)
	if err != nil {
		return nil, err
	}
	for name, s := range selected.Services {
		if buildable(s) {
			names = append(names, name)
		}
	}
	return names, nil
}

// prepareImages makes the images that an up needs: those that are missing, with --build all, with --no-build none.
func (c *cli) prepareImages(ctx context.Context, d *client.Client, f convergeFlags, stack *spec.Stack, services []string) error {
	if !f.build {
		return c.buildMissing(ctx, d, f, stack, services, false)
	}
	all, err := f.builds(stack, services)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errNothingToBuild
	}
	return c.build(ctx, d, buildOptions{stack: stack, services: all, output: c.buildOutput})
}

// buildMissing builds what has no image yet, unless it is not to be built.
func (c *cli) buildMissing(ctx context.Context, d *client.Client, f convergeFlags, stack *spec.Stack, services []string, quiet bool) error {
	if f.noBuild {
		return nil
	}
	all, err := f.builds(stack, services)
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range all {
		id, err := imageID(ctx, d, stack.Services[name].Image)
		if err != nil {
			return err
		}
		if id == "" {
			missing = append(missing, name)
		}
	}
	return c.build(ctx, d, buildOptions{stack: stack, services: missing, quiet: quiet, output: c.buildOutput})
}

// buildOutput shows what a build prints among the lines of progress.
func (c *cli) buildOutput(service string) io.WriteCloser {
	return &prefixed{w: c.err, prefix: service + " | "}
}

// runBuild runs one command to its end. What it printed is shown at the end if it failed in quiet.
func (c *cli) runBuild(ctx context.Context, o buildOptions, s *spec.Service) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", s.Policy.Build)
	cmd.Dir = o.stack.WorkingDir
	cmd.Env = append(os.Environ(), "STACK_ROOT="+c.root, "STACK_RUN="+c.runDir, "STACK_SERVICE="+s.Name, "STACK_IMAGE="+s.Image)
	// A group of its own, so that all of it ends with us and nothing of it hears the terminal's Ctrl-C twice.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out := o.output(s.Name)
	defer out.Close()
	var kept bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, out
	if o.quiet {
		cmd.Stdout, cmd.Stderr = &kept, &kept
	}
	err := cmd.Run()
	if err != nil && o.quiet {
		out.Write(kept.Bytes())
	}
	return err
}

// imageID is the id of the image that a reference names here; empty where there is none.
func imageID(ctx context.Context, d *client.Client, ref string) (string, error) {
	details, err := d.Image(ctx, ref)
	var failed *api.Error
	if errors.As(err, &failed) && failed.Code == api.NotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var image struct {
		ID string `json:"id"`
	}
	return image.ID, json.Unmarshal(details, &image)
}

// prefixed writes whole lines with a prefix.
type prefixed struct {
	w       io.Writer
	prefix  string
	pending []byte
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.pending = append(p.pending, b...)
	for {
		i := bytes.IndexByte(p.pending, '\n')
		if i < 0 {
			return len(b), nil
		}
		if err := p.line(p.pending[:i]); err != nil {
			return len(b), err
		}
		p.pending = p.pending[i+1:]
	}
}

func (p *prefixed) line(line []byte) error {
	_, err := fmt.Fprintf(p.w, "%s%s\n", p.prefix, strings.TrimRight(string(line), "\r"))
	return err
}

// Close writes a last line that has no end.
func (p *prefixed) Close() error {
	if len(p.pending) == 0 {
		return nil
	}
	line := p.pending
	p.pending = nil
	return p.line(line)
}
