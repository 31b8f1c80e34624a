package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/client"
	"github.com/stack-run/stack/cmd/internal/hostconfig"
	"github.com/stack-run/stack/cmd/internal/ui"
)

// cli is one command line: its streams and global flags.
type cli struct {
	in       io.Reader
	out, err io.Writer

	files            []string
	projectName      string
	projectDirectory string
	profiles         []string
	envFiles         []string
	allResources     bool
	ansi             string
	progressMode     string
	parallel         int
	dryRun           bool
	root             string
	runDir           string
	context          string // refused
	compatibility    bool   // refused
}

func newCLI(in io.Reader, out, err io.Writer) *cli { return &cli{in: in, out: out, err: err} }

// verb adapts the work of a command to cobra. The context ends at SIGINT or SIGTERM, and the command then with 130.
func (c *cli) verb(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err := work(ctx, args)
		if err != nil && ctx.Err() != nil && cmd.Context().Err() == nil {
			return exit(interrupted)
		}
		return err
	}
}

// daemon connects to the daemon, and starts it where none listens.
func (c *cli) daemon(ctx context.Context) (*client.Client, error) {
	root, err := filepath.Abs(c.root)
	if err != nil {
		return nil, err
	}
	runDir, err := filepath.Abs(c.runDir)
	if err != nil {
		return nil, err
	}
	return client.Ensure(ctx, client.EnsureOptions{Root: root, RunDir: runDir})
}

// nextDaemon connects to the daemon that takes the place of one that has ended; it starts none.
func (c *cli) nextDaemon(ctx context.Context, patience time.Duration) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		d, err := client.Dial(ctx, client.Socket(c.runDir))
		if !errors.Is(err, client.ErrNotRunning) {
			return d, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// progress shows an operation's events where --progress says.
func (c *cli) progress(title string) ui.Progress {
	w := c.err
	if toStdout, _ := strconv.ParseBool(os.Getenv("COMPOSE_STATUS_STDOUT")); toStdout {
		w = c.out
	}
	mode := ui.Mode(c.progressMode)
	if mode == ui.Auto && ui.ANSI(c.ansi) == ui.NeverANSI {
		mode = ui.Plain
	}
	return ui.NewProgress(w, mode, title, c.colorOn(w))
}

func (c *cli) colorOn(w io.Writer) bool { return ui.ANSI(c.ansi).Color(w, os.Getenv("NO_COLOR")) }

// changing are the commands that change something and can't tell in advance what: they refuse --dry-run.
var changing = []string{
	"stack exec", "stack pull", "stack daemon", "stack image pull", "stack image load", "stack image rm",
	"stack gitops add", "stack gitops sync", "stack gitops suspend", "stack gitops resume", "stack gitops rm",
	"stack volume rm", "stack volume prune", "stack network rm", "stack network prune",
}

// checkGlobals refuses global flags that can't be obeyed.
func (c *cli) checkGlobals(cmd *cobra.Command) error {
	if c.dryRun && slices.Contains(changing, cmd.CommandPath()) {
		return fmt.Errorf("--dry-run: `%s` has no plan to show; nothing was done", cmd.CommandPath())
	}
	if !slices.Contains(ui.Modes, ui.Mode(c.progressMode)) {
		return fmt.Errorf("--progress %q: use one of %s", c.progressMode, joined(ui.Modes))
	}
	switch ui.ANSI(c.ansi) {
	case ui.AutoANSI, ui.NeverANSI, ui.AlwaysANSI:
	default:
		return fmt.Errorf("--ansi %q: use one of auto, never, always", c.ansi)
	}
	if c.context != "" {
		return fmt.Errorf("--context: there is no Docker engine behind stack; it runs on this machine (or use --root and --run-dir to choose another daemon)")
	}
	if c.compatibility {
		return fmt.Errorf("--compatibility: container names with underscores are not supported; leave the flag away")
	}
	return nil
}

// globalFlags defines what stands before the verb, and the few flags that may stand after it.
func (c *cli) globalFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.files, "file", "f", nil, "Stack files, merged in order; - is standard input")
	f.StringVarP(&c.projectName, "project-name", "p", "", "Name of the stack")
	f.StringVar(&c.projectDirectory, "project-directory", "", "Directory that relative paths refer to\n(default: that of the first stack file)")
	f.StringVar(&c.projectDirectory, "workdir", "", "Old name of --project-directory")
	f.StringArrayVar(&c.profiles, "profile", nil, "Enable a profile")
	f.StringArrayVar(&c.envFiles, "env-file", nil, "Read variables from another file than .env")
	f.BoolVar(&c.allResources, "all-resources", false, "Include resources that no service uses")
	f.StringVar(&c.ansi, "ansi", orDefault(os.Getenv("COMPOSE_ANSI"), string(ui.AutoANSI)), "Colours and cursor movements: auto, never, always")
	f.StringVar(&c.progressMode, "progress", orDefault(os.Getenv("COMPOSE_PROGRESS"), string(ui.Auto)), "Progress output: "+joined(ui.Modes))
	f.IntVar(&c.parallel, "parallel", -1, "Accepted for compatibility: the daemon chooses")
	f.BoolVar(&c.compatibility, "compatibility", false, "Refused")
	f.StringVarP(&c.context, "context", "c", "", "Refused")
	for _, name := range []string{"workdir", "compatibility", "context"} {
		f.MarkHidden(name) // fails for unknown names only
	}

	p := cmd.PersistentFlags()
	p.BoolVar(&c.dryRun, "dry-run", false, "Print the plan and change nothing")
	p.StringVar(&c.root, "root", orDefault(os.Getenv("STACK_ROOT"), hostconfig.DefaultRoot), "State folder of the daemon")
	p.StringVar(&c.runDir, "run-dir", orDefault(os.Getenv("STACK_RUN"), hostconfig.DefaultRunDir), "Run-time folder of the daemon, with its socket")
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func joined[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}
