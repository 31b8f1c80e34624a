package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// later are the verbs of `docker compose` that stack has not yet.
var later = []string{"attach", "bridge", "build", "commit", "convert", "cp", "events", "export", "publish", "push", "stats", "top", "volumes", "wait"}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:              "stack",
		Short:            "Run Compose files without Docker and keep them running",
		Version:          version,
		SilenceErrors:    true,
		SilenceUsage:     true,
		TraverseChildren: true, // -f before the verb is a stack file, after it what the verb says
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return c.checkGlobals(cmd)
		},
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return nil
			case slices.Contains(later, args[0]):
				return fmt.Errorf("`stack %s` does not exist yet", args[0])
			}
			err := fmt.Errorf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("%w; did you mean %s?", err, near[0])
			}
			return fmt.Errorf("%w; see stack --help", err)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("Stack version {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && cmd != root && root.Flags().Lookup(unknown.GetSpecifiedName()) != nil {
			return fmt.Errorf("--%s stands before the verb: stack --%[1]s ... %s", unknown.GetSpecifiedName(), cmd.Name())
		}
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	c.globalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: "stack", Title: "Stacks:"},
		&cobra.Group{ID: "host", Title: "The host:"},
	)
	root.SetHelpCommandGroupID("host")
	root.SetCompletionCommandGroupID("host")
	for _, cmd := range []*cobra.Command{
		c.upCommand(), c.downCommand(), c.planCommand(), c.diffCommand(), c.historyCommand(), c.jobCommand(), c.rollbackCommand(), c.psCommand(), c.healthCommand(), c.logsCommand(), c.execCommand(), c.runCommand(),
		c.statusCommand(), c.suspendCommand(), c.resumeCommand(),
		c.configCommand(), c.createCommand(), c.startCommand(), c.stopCommand(), c.restartCommand(), c.killCommand(), c.rmCommand(),
		c.pauseCommand(), c.unpauseCommand(), c.scaleCommand(), c.pullCommand(), c.watchCommand(), c.portCommand(), c.imagesCommand(), c.lsCommand(),
	} {
		cmd.GroupID = "stack"
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{
		c.daemonCommand(), c.gitopsCommand(), c.imageCommand(), c.volumeCommand(), c.networkCommand(), c.versionCommand(),
	} {
		cmd.GroupID = "host"
		root.AddCommand(cmd)
	}
	return root
}
