package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/spec/load"
)

type configFlags struct {
	format      string
	output      string
	quiet       bool
	services    bool
	volumes     bool
	networks    bool
	images      bool
	profiles    bool
	models      bool
	variables   bool
	environment bool
	hash        string

	resolveDigests   bool
	lockDigests      bool
	noInterpolate    bool
	noNormalize      bool
	noPathResolution bool
	noConsistency    bool
	noEnvResolution  bool
}

func (c *cli) configCommand() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:               "config [SERVICE...]",
		Short:             "Check the stack files and print what they come to",
		ValidArgsFunction: c.completeServices,
		RunE:              c.verb(func(ctx context.Context, services []string) error { return c.config(ctx, f, services) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "yaml or json")
	flags.StringVarP(&f.output, "output", "o", "", "Write to a file")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Check only")
	flags.BoolVar(&f.services, "services", false, "Print the services' names")
	flags.BoolVar(&f.volumes, "volumes", false, "Print the volumes' names")
	flags.BoolVar(&f.networks, "networks", false, "Print the networks' names")
	flags.BoolVar(&f.images, "images", false, "Print the images")
	flags.BoolVar(&f.profiles, "profiles", false, "Print the profiles")
	flags.BoolVar(&f.models, "models", false, "Print the models (there are none: not supported)")
	flags.BoolVar(&f.variables, "variables", false, "Print the variables that the files use, and their defaults")
	flags.BoolVar(&f.environment, "environment", false, "Print the variables that are set for the files")
	flags.StringVar(&f.hash, "hash", "", "Print the digest of services: * or names, separated by commas")
	flags.BoolVar(&f.resolveDigests, "resolve-image-digests", false, "Pin images to digests (not supported yet)")
	flags.BoolVar(&f.lockDigests, "lock-image-digests", false, "Print an override file that pins images to digests (not supported yet)")
	flags.BoolVar(&f.noInterpolate, "no-interpolate", false, "Leave variables as they are written")
	flags.BoolVar(&f.noNormalize, "no-normalize", false, "Leave short forms as they are written")
	flags.BoolVar(&f.noPathResolution, "no-path-resolution", false, "Leave paths as they are written")
	flags.BoolVar(&f.noConsistency, "no-consistency", false, "Don't check that references have a target")
	flags.BoolVar(&f.noEnvResolution, "no-env-resolution", false, "Don't read the services' env files")
	return cmd
}

func (c *cli) config(ctx context.Context, f configFlags, services []string) error {
	if f.resolveDigests || f.lockDigests {
		return errors.New("pinning images to digests is not supported yet; see `stack image inspect` for an image's digest")
	}
	if f.models {
		return nil // a stack with models is refused when it is loaded
	}
	o, err := c.loadOptions(services)
	if err != nil {
		return err
	}
	o.Observing = true
	var text string
	switch {
	case f.variables:
		text, err = variables(ctx, o, f.format)
	case f.environment:
		var lines []string
		lines, err = load.Environment(o)
		text = asLines(lines)
	case f.services, f.volumes, f.networks, f.images, f.profiles, f.hash != "":
		text, err = c.configNames(ctx, o, f)
	default:
		text, err = c.rendered(ctx, o, f)
	}
	if err != nil || f.quiet {
		return err
	}
	if f.output != "" {
		return os.WriteFile(f.output, []byte(text), 0o666)
	}
	_, err = fmt.Fprint(c.out, text)
	return err
}

// rendered is the whole stack.
func (c *cli) rendered(ctx context.Context, o load.Options, f configFlags) (string, error) {
	format := orDefault(f.format, "yaml")
	if format != "yaml" && format != "json" {
		return "", fmt.Errorf("--format %q: use yaml or json", format)
	}
	text, warnings, err := load.Render(ctx, o, load.RenderOptions{
		Format:           format,
		NoInterpolate:    f.noInterpolate,
		NoNormalize:      f.noNormalize,
		NoPathResolution: f.noPathResolution,
		NoConsistency:    f.noConsistency,
		NoEnvResolution:  f.noEnvResolution,
	})
	ui.PrintDiagnostics(c.err, warnings, c.colorOn(c.err))
	return string(text), err
}

// configNames are the lists of names, one a line.
func (c *cli) configNames(ctx context.Context, o load.Options, f configFlags) (string, error) {
	result, err := load.Load(ctx, o)
	if err != nil {
		return "", err
	}
	ui.PrintDiagnostics(c.err, result.Warnings, c.colorOn(c.err))
	switch {
	case f.services:
		return asLines(result.ServiceNames()), nil
	case f.volumes:
		return asLines(result.VolumeNames()), nil
	case f.networks:
		return asLines(result.NetworkNames()), nil
	case f.images:
		return asLines(result.Images()), nil
	case f.profiles:
		return asLines(result.Profiles()), nil
	}
	var names []string
	if f.hash != "*" {
		names = strings.Split(f.hash, ",")
	}
	hashes, err := result.Hashes(names...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, hash := range hashes {
		fmt.Fprintf(&b, "%s %s\n", hash.Service, hash.Digest)
	}
	return b.String(), nil
}

// variables lists what the files interpolate.
func variables(ctx context.Context, o load.Options, format string) (string, error) {
	found, err := load.Variables(ctx, o)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	switch format {
	case "", "table":
		rows := make([][]string, len(found))
		for i, v := range found {
			rows[i] = []string{v.Name, fmt.Sprint(v.Required), v.Default, v.Alternate}
		}
		ui.Table(&b, []string{"NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"}, rows)
	case "json", "yaml":
		byName := map[string]any{}
		for _, v := range found {
			byName[v.Name] = map[string]any{"Name": v.Name, "Required": v.Required, "DefaultValue": v.Default, "PresenceValue": v.Alternate}
		}
		if format == "json" {
			err := printJSON(&b, byName)
			return b.String(), err
		}
		text, err := yaml.Marshal(byName)
		return string(text), err
	default:
		return "", fmt.Errorf("--format %q: use table, json or yaml", format)
	}
	return b.String(), nil
}

func asLines(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return strings.Join(texts, "\n") + "\n"
}
