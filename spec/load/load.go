// Package load turns stack files into a spec.Stack, resolved as `docker compose` resolves them.
//
// compose-go does the resolving: interpolation, includes, extends, merging, env files, profiles. Beside it this package
// reads the same files into a tree of its own that keeps where each value was written (see tree.go). With it
//   - every attribute is checked against the table of what is supported (attributes.go), so that nothing is ignored in
//     silence;
//   - errors carry file, line and column, and all of them come at once, where compose-go gives up at the first.
//
// Nothing here touches the host but for reading files.
package load

import (
	"context"
	"io"
	"time"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/cache"
)

// Options say which files to load and how, in the terms of Compose's command line and environment.
type Options struct {
	Files            []string  // -f; "-" is Stdin. Empty: COMPOSE_FILE, then discovery
	ProjectDirectory string    // --project-directory
	ProjectName      string    // -p
	Profiles         []string  // --profile; empty: COMPOSE_PROFILES
	EnvFiles         []string  // --env-file; empty: COMPOSE_ENV_FILES, then .env
	Environ          []string  // the process environment, "NAME=value"
	WorkingDir       string    // absolute; relative paths above are relative to it
	Stdin            io.Reader `json:"-"`
	// Services that the user named: a disabled one among them is enabled, with its profiles.
	Services []string
	// Observing says that nothing is going to be made from the stack (config, ps, logs, down): env, secret and config
	// files that are missing are no more than warned of.
	Observing bool
	// AllResources keeps networks, volumes, secrets and configs that no service uses (--all-resources).
	AllResources bool
}

// Result of a load.
type Result struct {
	Stack    *spec.Stack
	Warnings spec.Diagnostics
	// Inputs are all the files whose content or absence the result depends on, absolute and sorted.
	// It is nil if not all of it came from files: nothing may be kept of such a load.
	Inputs []string
	// Links are symbolic links, absolute, that decide which files `watch` is about. They are known when Inputs are.
	Links []string
	// Started is when the load began to read: what changed later may or may not be in it.
	Started time.Time

	project *types.Project // nil when the stack, or a part of it, came from the cache
	written *cache.Written // nil where a later load can't build on this one
}

// Load reads and resolves the stack files. The error is spec.Diagnostics, with all that is wrong, unless ctx ended.
func Load(ctx context.Context, o Options) (*Result, error) {
	started := time.Now()
	src, err := discover(o)
	if err != nil {
		return nil, err
	}
	return src.load(ctx, o, started)
}

// load goes the whole way once it is known which files take part.
func (src *source) load(ctx context.Context, o Options, started time.Time) (*Result, error) {
	hearing := listen()
	defer hearing.stop()
	go schema.Validate(nil) // compose-go compiles its schema at the first use: that goes on while the files are read
	files := parseTree(src)
	src.keys = files.keys
	if files.findings.HasErrors() {
		return nil, files.explain(ctx, src, nil, nil) // compose-go would fail, too, and on some files never end
	}
	if result := src.partly(ctx, o, files, hearing, started); result != nil {
		return result, nil
	}
	project, err := src.compose(ctx, projectOptions{})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	notes := hearing.heard()
	if err != nil {
		return nil, files.explain(ctx, src, err, notes)
	}
	if project, err = enable(project, o.Services); err != nil {
		return nil, fail("", "%v", err)
	}
	findings := files.check(src, isEnabled(project))
	general := len(findings)
	findings = append(findings, notes.diagnostics(files)...)
	if project, err = resolveFiles(project, files, o, &findings); err != nil {
		return nil, append(findings, files.explain(ctx, src, err, nil)...)
	}
	stack := convert(project, files, o, &findings)
	stack.Files = src.paths()
	if findings.HasErrors() {
		return nil, sorted(findings)
	}
	result := &Result{
		Stack:   stack,
		Inputs:  src.inputs.list(project, files),
		Links:   watchedLinks(stack, files),
		Started: started,
		project: project,
	}
	src.note(result, files, o, len(findings) == general)
	result.Warnings = sorted(findings)
	return result, nil
}
