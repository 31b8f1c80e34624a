package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"sync"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	attribute "github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec"
)

// projectOptions are the steps of compose-go that `config` can leave out.
type projectOptions struct {
	noInterpolate    bool
	noNormalize      bool
	noPathResolution bool
	noConsistency    bool
}

// details are compose-go's form of the source.
func (src *source) details() types.ConfigDetails {
	d := types.ConfigDetails{WorkingDir: src.dir, Environment: src.env.Clone()}
	for _, f := range src.files {
		d.ConfigFiles = append(d.ConfigFiles, types.ConfigFile{Filename: f.name, Content: f.content})
	}
	return d
}

func (src *source) loaderOptions(o projectOptions) func(*loader.Options) {
	return func(lo *loader.Options) {
		lo.Interpolate = src.fewerCasts(lo.Interpolate)
		// A second look, at compose-go's result, in case the tree misses something: see unseen.
		loader.WithSupportedAttributes(declared(), func(found []loader.UnsupportedAttribute) { src.unsupported = found })(lo)
		lo.Profiles = src.profiles
		lo.SkipInterpolation = o.noInterpolate
		lo.SkipValidation = o.noInterpolate // the schema has no place for ${...} where it wants one of some words
		lo.SkipNormalization = o.noNormalize
		lo.ResolvePaths = !o.noPathResolution
		lo.SkipConsistencyCheck = o.noConsistency
		// Env and label files are read once it is known which services are enabled: see enable.
		lo.SkipResolveEnvironment = true
		lo.SkipResolveLabels = true
		if src.explicit || !src.namedInFile() {
			lo.SetProjectName(src.name, src.explicit)
		}
	}
}

// fewerCasts leaves out the casts of attributes that stand in none of the files: compose-go compares the path of every text
// with every cast, which is a good part of the time that a large file takes.
func (src *source) fewerCasts(all *interpolation.Options) *interpolation.Options {
	if all == nil || src.keys == nil {
		return all
	}
	few := *all
	few.TypeCastMapping = maps.Clone(all.TypeCastMapping)
	maps.DeleteFunc(few.TypeCastMapping, func(path attribute.Path, _ interpolation.Cast) bool {
		return slices.ContainsFunc(path.Parts(), func(step string) bool {
			return step != attribute.PathMatchAll && step != attribute.PathMatchList && !src.keys[step]
		})
	})
	return &few
}

func (src *source) namedInFile() bool {
	for _, f := range src.files {
		var named struct{ Name string }
		if yaml.Unmarshal(f.content, &named) == nil && named.Name != "" {
			return true
		}
	}
	return false
}

// compose loads the project with compose-go.
func (src *source) compose(ctx context.Context, o projectOptions) (*types.Project, error) {
	return loader.LoadWithContext(ctx, src.details(), src.loaderOptions(o))
}

// enable enables the services that the user named, with their profiles. The error is an *spec.UnknownServiceError.
func enable(project *types.Project, names []string) (*types.Project, error) {
	project, names, err := enableJobs(project, names)
	if err != nil {
		return nil, err
	}
	all := project.AllServices()
	for _, name := range names {
		if _, ok := all[name]; !ok {
			return nil, &spec.UnknownServiceError{Name: name, Similar: spec.Closest(name, slices.Collect(maps.Keys(all)))}
		}
	}
	project, err = project.WithServicesEnabled(names...)
	if err != nil {
		return nil, err
	}
	return project.WithoutUnresolvedOptionalDependencies(), nil
}

func isEnabled(project *types.Project) func(service string) bool {
	return func(service string) bool {
		_, isService := project.Services[service]
		_, isJob := project.Jobs[service]
		return isService || isJob
	}
}

// resolveFiles reads the env and label files of the enabled services and drops resources that none of them uses.
// Files that are missing are reported first, each at its place: compose-go would stop at one of them.
func resolveFiles(project *types.Project, t *tree, o Options, findings *spec.Diagnostics) (_ *types.Project, err error) {
	asServices(project)
	defer func() {
		if err == nil {
			asJobs(project)
		}
	}()
	if !o.AllResources {
		restore := hooksAsServices(project)
		project = project.WithoutUnnecessaryResources()
		restore(project)
	}
	for _, name := range project.ServiceNames() {
		service := project.Services[name]
		files := service.EnvFiles
		service.EnvFiles = slices.DeleteFunc(slices.Clone(files), func(f types.EnvFile) bool {
			return bool(f.Required) && t.missing(f.Path, []string{section(project, name), name, "env_file"}, "env file", o, findings)
		})
		service.LabelFiles = slices.DeleteFunc(slices.Clone(service.LabelFiles), func(f string) bool {
			return t.missing(f, []string{section(project, name), name, "label_file"}, "label file", o, findings)
		})
		project.Services[name] = service
	}
	if project, err = project.WithServicesEnvironmentResolved(false); err != nil {
		return nil, err
	}
	project, err = project.WithServicesLabelsResolved(false)
	return project, err
}

// missing tells whether a file that is referred to is not there, and reports it at the reference.
func (t *tree) missing(file string, path []string, what string, o Options, findings *spec.Diagnostics) bool {
	t.read = append(t.read, file)
	_, err := os.Stat(file)
	if err == nil {
		return false
	}
	severity := spec.Error
	if o.Observing {
		severity = spec.Warning
	}
	path = t.entryOf(path, file)
	*findings = append(*findings, t.diagnose(severity, path, fmt.Sprintf("can't read the %s %s: %s", what, file, cause(err)), ""))
	return true
}

// notes are what compose-go told its logger: its only way to warn.
type notes []string

var (
	listening sync.Mutex

	// The variable's name stands quoted in the only warning that a position in the file can be found for.
	unsetVariable = regexp.MustCompile(`^The "([^"]+)" variable is not set`)
	// compose-go says this once in a process's life; the tree is asked instead.
	obsoleteVersion = regexp.MustCompile("the attribute `version` is obsolete")
)

// hearing takes what goes to the logger. There is one logger for the whole process, so loads take turns.
type hearing struct {
	mu    sync.Mutex
	notes notes
	hooks logrus.LevelHooks
	out   io.Writer
}

// listen begins a hearing, which must be stopped.
func listen() *hearing {
	listening.Lock()
	logger := logrus.StandardLogger()
	h := &hearing{hooks: logger.ReplaceHooks(logrus.LevelHooks{}), out: logger.Out}
	logger.AddHook(h)
	logger.SetOutput(io.Discard)
	return h
}

func (h *hearing) stop() {
	logger := logrus.StandardLogger()
	logger.SetOutput(h.out)
	logger.ReplaceHooks(h.hooks)
	listening.Unlock()
}

// heard are the notes so far.
func (h *hearing) heard() notes {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.notes)
}

func (h *hearing) Levels() []logrus.Level {
	return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel}
}

func (h *hearing) Fire(e *logrus.Entry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, e.Message)
	return nil
}
