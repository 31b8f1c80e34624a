package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

func (c *cli) gitopsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gitops",
		Short: "Keep stacks as Git repositories have them",
		Long: "Keep stacks as Git repositories have them. Repositories are added here, or declared in " + declare.DefaultPath +
			"\n(STACK_GITOPS names another file).",
	}
	cmd.AddCommand(c.gitopsAddCommand(), c.gitopsLsCommand(), c.gitopsStatusCommand(), c.gitopsSyncCommand(),
		c.gitopsSuspendCommand(true), c.gitopsSuspendCommand(false), c.gitopsRmCommand(), c.gitopsHistoryCommand(), c.gitopsEventsCommand())
	return cmd
}

// onDaemon is a verb that asks the daemon something.
func (c *cli) onDaemon(work func(ctx context.Context, d *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return c.verb(func(ctx context.Context, args []string) error {
		d, err := c.daemon(ctx)
		if err != nil {
			return err
		}
		defer d.Close()
		return work(ctx, d, args)
	})
}

// addFlags are the repository's fields as flags.
type addFlags struct {
	def                            declare.Repository
	ref                            string
	interval, timeout, waitTimeout time.Duration
	noPrune                        bool
	replace, wait                  bool
}

func (c *cli) gitopsAddCommand() *cobra.Command {
	var f addFlags
	cmd := &cobra.Command{
		Use:   "add NAME --url URL",
		Short: "Follow a repository",
		Example: "  stack gitops add shop --url https://git.example.com/ops/shop.git --ref main --path deploy\n" +
			"  stack gitops add all --url ssh://git@git.example.com/ops.git --ssh-key /etc/stack/id --known-hosts /etc/stack/known_hosts --path '**/compose.yaml'",
		Args: cobra.ExactArgs(1),
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, args []string) error {
			def, err := f.repository(args[0])
			if err != nil {
				return err
			}
			if err := d.AddRepository(ctx, def, f.replace); err != nil {
				return err
			}
			if !f.wait {
				return nil
			}
			r, err := d.SyncRepository(ctx, def.Name, api.SyncRequest{})
			if err != nil {
				return err
			}
			return c.synced(r)
		}),
	}
	f.define(cmd)
	return cmd
}

func (f *addFlags) define(cmd *cobra.Command) {
	flags, d := cmd.Flags(), &f.def
	flags.StringVar(&d.URL, "url", "", "https, ssh, git or file URL, or oci://REGISTRY/REPOSITORY")
	flags.StringVar(&f.ref, "ref", "", "What to follow: a branch, tag=TAG, semver=RANGE or commit=ID (default: the server's HEAD)")
	flags.StringVar(&d.Path, "path", "", "Folder with a stack file, a stack file, or a pattern such as '**/compose.yaml' (default: the top folder)")
	flags.StringArrayVar(&d.Sparse, "sparse", nil, "Fetch only this folder or file, beside --path")
	flags.DurationVar(&f.interval, "interval", 0, "How often to look for something new (default 1m)")
	flags.DurationVar(&f.timeout, "timeout", 0, "How long the server may take (default 1m)")
	flags.DurationVar(&f.waitTimeout, "wait-timeout", 0, "How long a revision may take to become healthy (default 5m)")
	flags.Int64Var(&d.MaxSize, "max-size", 0, "Bytes that a revision may have (default 256 MiB)")
	flags.StringVar(&d.Auth.TokenFile, "token-file", "", "File with a token")
	flags.StringVar(&d.Auth.Username, "username", "", "User's name")
	flags.StringVar(&d.Auth.PasswordFile, "password-file", "", "File with the password")
	flags.StringVar(&d.Auth.SSHKey, "ssh-key", "", "File with a private key")
	flags.StringVar(&d.Auth.KnownHosts, "known-hosts", "", "File with the server's public key")
	flags.StringVar(&d.Auth.CAFile, "ca-file", "", "File with the authority that signed the server's certificate")
	flags.StringArrayVar(&d.Verify.OpenPGP, "verify-openpgp", nil, "Take only commits signed by a key of this file")
	flags.StringVar(&d.Verify.AllowedSigners, "verify-ssh", "", "Take only commits signed by a key of this file of allowed signers")
	flags.BoolVar(&d.Verify.Tag, "verify-tag", false, "Look at the tag's signature instead of the commit's")
	flags.BoolVar(&d.AllowRewrite, "allow-rewrite", false, "Take branches that were force-pushed or moved backwards")
	flags.StringArrayVar(&d.Profiles, "profile", nil, "Enable a profile")
	flags.StringArrayVar(&d.EnvFiles, "env-file", nil, "Read variables from this file of the repository")
	flags.StringArrayVar(&d.HostFiles, "host-file", nil, "Let stack files read this file or folder of the host")
	flags.StringArrayVar(&d.DependsOn, "depends-on", nil, "Wait for this repository to be converged")
	flags.BoolVar(&f.noPrune, "no-prune", false, "Leave alone what leaves the repository")
	flags.BoolVar(&d.PruneVolumes, "prune-volumes", false, "Delete the volumes of stacks that leave the repository, with their data")
	flags.StringVar(&d.OnFailure, "on-failure", "", "What becomes of a revision that fails: hold or rollback (default hold)")
	flags.StringVar(&d.Webhook.SecretFile, "webhook-secret-file", "", "File with the secret that webhooks are signed with")
	flags.StringVar(&d.Report.Provider, "report", "", "Tell the server what became of a commit: github, gitlab or gitea")
	flags.StringVar(&d.Report.URL, "report-url", "", "URL of the repository's API")
	flags.StringVar(&d.Report.TokenFile, "report-token-file", "", "File with a token for it")
	flags.BoolVar(&f.replace, "replace", false, "Change a repository that is followed already")
	flags.BoolVar(&f.wait, "wait", false, "Wait until it is applied, or failed")
	cmd.MarkFlagRequired("url") // fails for unknown names only
}

func (f *addFlags) repository(name string) (declare.Repository, error) {
	d := f.def
	d.Name = name
	d.Interval, d.Timeout, d.WaitTimeout = declare.Duration(f.interval), declare.Duration(f.timeout), declare.Duration(f.waitTimeout)
	if f.noPrune {
		d.Prune = new(bool)
	}
	kind, value, ok := strings.Cut(f.ref, "=")
	switch {
	case !ok:
		d.Ref.Branch = f.ref
	case kind == "branch":
		d.Ref.Branch = value
	case kind == "tag":
		d.Ref.Tag = value
	case kind == "semver":
		d.Ref.SemVer = value
	case kind == "commit":
		d.Ref.Commit = value
	default:
		return d, fmt.Errorf("--ref %q: write a branch, tag=TAG, semver=RANGE or commit=ID", f.ref)
	}
	if ps := d.Check(); len(ps) > 0 {
		return d, ps
	}
	return d, nil
}

func (c *cli) gitopsSyncCommand() *cobra.Command {
	var req api.SyncRequest
	cmd := &cobra.Command{
		Use:   "sync NAME...",
		Short: "Fetch and apply now, and wait for the outcome",
		Long:  "Fetch and apply now, and wait for the outcome. A revision that failed is tried again.",
		Args:  cobra.MinimumNArgs(1),
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, names []string) error {
			return c.each(names, func(name string) error {
				r, err := d.SyncRepository(ctx, name, req)
				if err != nil {
					return err
				}
				return c.synced(r)
			})
		}),
	}
	cmd.Flags().BoolVar(&req.AllowRewrite, "allow-rewrite", false, "Take a branch that was force-pushed or moved backwards, this once")
	return cmd
}

// synced tells the outcome of a sync; one that is not good is an error.
func (c *cli) synced(r status.Repository) error {
	ready := r.Condition(status.Ready)
	if ready.Status == status.True {
		fmt.Fprintf(c.out, "%s: %s\n", r.Name, ready.Message)
		return nil
	}
	return &api.Error{Code: api.Failed, Message: fmt.Sprintf("%s: %s: %s", r.Name, ready.Reason, ready.Message)}
}

func (c *cli) gitopsSuspendCommand(suspend bool) *cobra.Command {
	use, short := "resume NAME...", "Go on with what was suspended"
	if suspend {
		use, short = "suspend NAME...", "Leave a repository's stacks as they are until it is resumed"
	}
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.MinimumNArgs(1),
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, names []string) error {
			return c.each(names, func(name string) error { return d.SuspendRepository(ctx, name, suspend) })
		}),
	}
}

func (c *cli) gitopsRmCommand() *cobra.Command {
	var down, volumes bool
	cmd := &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove"},
		Short:   "Stop following a repository; its stacks run on",
		Args:    cobra.MinimumNArgs(1),
		RunE: c.onDaemon(func(ctx context.Context, d *client.Client, names []string) error {
			return c.each(names, func(name string) error { return d.RemoveRepository(ctx, name, down || volumes, volumes) })
		}),
	}
	cmd.Flags().BoolVar(&down, "down", false, "Take its stacks down")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "Take its stacks down and delete their volumes")
	return cmd
}
