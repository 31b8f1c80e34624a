package load

import (
	"context"
	"regexp"
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// beyond finds the mistakes that only a loaded project shows, in files that did not load: it takes out what the findings
// are about and loads the rest. If the rest does not load either, these mistakes show when the others are mended.
func (t *tree) beyond(ctx context.Context, src *source, data any, findings spec.Diagnostics) spec.Diagnostics {
	model, ok := data.(map[string]any)
	if !ok {
		return nil
	}
	prune(model, findings)
	details := types.ConfigDetails{
		WorkingDir: src.dir, Environment: src.env.Clone(),
		ConfigFiles: []types.ConfigFile{{Filename: "mended", Config: model, Content: []byte{}}},
	}
	project, err := loader.LoadWithContext(ctx, details, func(o *loader.Options) {
		o.Profiles = src.profiles
		o.SkipInterpolation, o.SkipInclude, o.SkipExtends = true, true, true // done already
		o.SkipConsistencyCheck, o.SkipResolveEnvironment, o.SkipResolveLabels = true, true, true
		o.SetProjectName("mended", true)
	})
	if err != nil {
		return nil
	}
	// Files are not looked at: in the merged tree it is not known what their names are relative to.
	var more spec.Diagnostics
	convert(project, t, Options{Observing: true}, &more)
	return slices.DeleteFunc(more, func(d spec.Diagnostic) bool {
		return d.Severity != spec.Error || slices.ContainsFunc(findings, func(f spec.Diagnostic) bool {
			return f.Severity == spec.Error && f.Path == d.Path
		})
	})
}

// prune takes out of a model what error findings are about, and what only includes and extends are for.
func prune(model map[string]any, findings spec.Diagnostics) {
	var paths [][]string
	for _, d := range findings {
		if d.Severity == spec.Error && d.Path != "" {
			paths = append(paths, splitPath(d.Path))
		}
	}
	// From the last entry of a list to the first, so that what is taken out moves nothing that comes later.
	slices.SortFunc(paths, func(a, b []string) int {
		x, _ := strconv.Atoi(last(a))
		y, _ := strconv.Atoi(last(b))
		return y - x
	})
	paths = append(paths, []string{"include"}, []string{"version"})
	if services, ok := model["services"].(map[string]any); ok {
		for name := range services {
			paths = append(paths, []string{"services", name, "extends"})
		}
	}
	for _, path := range paths {
		remove(model, path)
	}
}

var pathStep = regexp.MustCompile(`[^.\[\]]+`)

func splitPath(path string) []string { return pathStep.FindAllString(path, -1) }

// remove returns the value without what is at the path.
func remove(value any, path []string) any {
	switch v := value.(type) {
	case map[string]any:
		child, ok := v[path[0]]
		switch {
		case !ok:
		case len(path) == 1:
			delete(v, path[0])
		default:
			v[path[0]] = remove(child, path[1:])
		}
	case []any:
		i, err := strconv.Atoi(path[0])
		switch {
		case err != nil || i < 0 || i >= len(v):
		case len(path) == 1:
			return slices.Delete(v, i, i+1)
		default:
			v[i] = remove(v[i], path[1:])
		}
	}
	return value
}
