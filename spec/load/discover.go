package load

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// The names looked for in a directory, the first found wins; then its override is added, if there is one.
var (
	fileNames     = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml", "stack.yaml", "stack.yml"}
	overrideNames = []string{
		"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
		"stack.override.yaml", "stack.override.yml",
	}
)

const projectNameVariable = "COMPOSE_PROJECT_NAME"

// stdinName is how Compose writes standard input among its files.
const stdinName = "-"

// source is what is known before anything is parsed: the files, the environment and the names.
type source struct {
	dir       string // the project directory, absolute
	files     []sourceFile
	env       types.Mapping
	name      string // "" when a file says it
	explicit  bool   // the name was given by flag or environment
	profiles  []string
	inputs    inputs
	warnings  spec.Diagnostics
	observing bool // see Options
	// unsupported is what compose-go found of attributes that the tables don't have.
	unsupported []loader.UnsupportedAttribute
	keys        map[string]bool // of all mappings in the files; nil where they were not read
	earlier     *earlier        // nil where nothing is kept of loads
}

// paths are the files that have one.
func (src *source) paths() []string {
	var paths []string
	for _, f := range src.files {
		if f.name != stdinName {
			paths = append(paths, f.name)
		}
	}
	return paths
}

// sourceFile is one stack file named or found.
type sourceFile struct {
	name    string // absolute, or "-"
	content []byte
}

// discover finds files, environment and name as Compose does, in its order: process environment, .env beside the first
// file named, COMPOSE_FILE (which .env may set), discovery, and .env again beside what was found.
func discover(o Options) (*source, error) {
	if !filepath.IsAbs(o.WorkingDir) {
		return nil, fail("", "the working directory %q is not absolute", o.WorkingDir)
	}
	src := &source{env: environment(o), inputs: inputs{}, observing: o.Observing}
	paths := absolute(o.WorkingDir, o.Files)
	dir := projectDirectory(o, paths)
	if err := src.readDotEnv(o, dir); err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		paths = src.filesOfEnvironment(o.WorkingDir)
	}
	if len(paths) == 0 {
		paths = src.search(dir)
	}
	if len(paths) == 0 {
		return nil, fail("write compose.yaml, or name the file with -f", "no stack file found in %s or any directory above it", dir)
	}
	src.dir = projectDirectory(o, paths)
	if src.dir != dir {
		if err := src.readDotEnv(o, src.dir); err != nil {
			return nil, err
		}
	}
	if err := src.read(paths, o.Stdin); err != nil {
		return nil, err
	}
	src.profiles = profiles(o, src.env)
	return src, src.chooseName(o)
}

// fail is an error of the load as a whole, which no line of a file is to blame for.
func fail(remedy, format string, args ...any) spec.Diagnostics {
	return spec.Diagnostics{{Severity: spec.Error, Summary: fmt.Sprintf(format, args...), Remedy: remedy}}
}

func environment(o Options) types.Mapping {
	env := types.Mapping{}
	for _, e := range o.Environ {
		if name, value, ok := strings.Cut(e, "="); ok && name != "" {
			env[name] = value
		}
	}
	env["PWD"] = o.WorkingDir
	return env
}

func absolute(dir string, paths []string) []string {
	abs := make([]string, len(paths))
	for i, p := range paths {
		switch {
		case p == stdinName, filepath.IsAbs(p):
			abs[i] = p
		default:
			abs[i] = filepath.Join(dir, p)
		}
	}
	return abs
}

// projectDirectory is the one asked for, or that of the first file, or the working directory.
func projectDirectory(o Options, paths []string) string {
	if o.ProjectDirectory != "" {
		return filepath.Clean(absolute(o.WorkingDir, []string{o.ProjectDirectory})[0])
	}
	for _, p := range paths {
		if p != stdinName {
			return filepath.Dir(p)
		}
	}
	return filepath.Clean(o.WorkingDir)
}

// readDotEnv adds what the env files say and the environment doesn't.
func (src *source) readDotEnv(o Options, dir string) error {
	files := absolute(o.WorkingDir, o.EnvFiles)
	if len(files) == 0 && src.env["COMPOSE_ENV_FILES"] != "" {
		files = absolute(o.WorkingDir, strings.Split(src.env["COMPOSE_ENV_FILES"], ","))
	}
	if len(files) == 0 {
		if v := src.env["COMPOSE_DISABLE_ENV_FILE"]; v != "" {
			off, err := strconv.ParseBool(v)
			if err != nil {
				return fail("set it to true or false", "COMPOSE_DISABLE_ENV_FILE has the value %q", v)
			}
			if off {
				return nil
			}
		}
		file := filepath.Join(dir, ".env")
		src.inputs.add(file)
		info, err := os.Stat(file)
		switch {
		case err == nil && !info.IsDir():
			files = []string{file}
		case errors.Is(err, fs.ErrPermission):
			src.warn("%s can't be read and is left out: %v", file, err)
		}
	}
	src.inputs.add(files...)
	values, err := dotenv.GetEnvFromFile(src.env, files)
	if err != nil {
		return fail("", "%v", err)
	}
	for name, value := range values {
		if _, set := src.env[name]; !set {
			src.env[name] = value
		}
	}
	return nil
}

func (src *source) warn(format string, args ...any) {
	src.warnings = append(src.warnings, spec.Diagnostic{Severity: spec.Warning, Summary: fmt.Sprintf(format, args...)})
}

func (src *source) filesOfEnvironment(dir string) []string {
	list := src.env["COMPOSE_FILE"]
	if list == "" {
		return nil
	}
	separator := src.env["COMPOSE_PATH_SEPARATOR"]
	if separator == "" {
		separator = string(os.PathListSeparator)
	}
	return absolute(dir, strings.Split(list, separator))
}

// search looks in the directory and then in those above it.
func (src *source) search(dir string) []string {
	for {
		found := src.existing(dir, fileNames)
		if len(found) > 0 {
			src.warnOfSeveral(found)
			overrides := src.existing(dir, overrideNames)
			if len(overrides) == 0 {
				return found[:1]
			}
			src.warnOfSeveral(overrides)
			return []string{found[0], overrides[0]}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

func (src *source) existing(dir string, names []string) []string {
	var found []string
	for _, name := range names {
		path := filepath.Join(dir, name)
		src.inputs.add(path)
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// FilesIn are the names of the stack files that a load finds in a folder by itself, overrides left out.
func FilesIn(dir string) []string {
	src := &source{inputs: inputs{}}
	return src.existing(dir, fileNames)
}

func (src *source) warnOfSeveral(found []string) {
	if len(found) > 1 {
		src.warn("found several stack files, %s; using %s", strings.Join(found, ", "), found[0])
	}
}

// read takes in the files named or found; all that can't be read are reported at once.
func (src *source) read(paths []string, stdin io.Reader) error {
	var findings spec.Diagnostics
	for _, path := range paths {
		var content []byte
		var err error
		if path == stdinName {
			src.inputs.unknown()
			if stdin == nil {
				stdin = strings.NewReader("")
			}
			content, err = io.ReadAll(stdin)
		} else {
			src.inputs.add(path)
			content, err = os.ReadFile(path)
		}
		if err != nil {
			findings = append(findings, spec.Diagnostic{
				Severity: spec.Error, File: path,
				Summary: "can't read the stack file: " + cause(err),
			})
			continue
		}
		src.files = append(src.files, sourceFile{name: path, content: content})
	}
	if len(findings) > 0 {
		return findings
	}
	return nil
}

// cause is an error of the file system without the path, which the diagnostic has already.
func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

func profiles(o Options, env types.Mapping) []string {
	list := o.Profiles
	if len(list) == 0 {
		list = strings.Split(env["COMPOSE_PROFILES"], ",")
	}
	var active []string
	for _, p := range list {
		if p = strings.TrimSpace(p); p != "" {
			active = append(active, p)
		}
	}
	return active
}

// chooseName settles the stack's name unless a stack file will: a flag, the environment, else the directory's name.
func (src *source) chooseName(o Options) error {
	for _, given := range []struct{ name, by string }{
		{o.ProjectName, "-p"}, {src.env[projectNameVariable], projectNameVariable},
	} {
		if given.name == "" {
			continue
		}
		if spec.NormalizeName(given.name) != given.name {
			return fail("use lower case letters, digits, hyphens and underscores, starting with a letter or digit",
				"invalid stack name %q, given by %s", given.name, given.by)
		}
		src.name, src.explicit = given.name, true
		return nil
	}
	src.name = spec.NormalizeName(filepath.Base(src.dir))
	return nil
}

// inputs are the paths whose content or absence decides the result. A nil value under stdinName says that something
// else did, too.
type inputs map[string]struct{}

func (in inputs) add(paths ...string) {
	for _, p := range paths {
		in[filepath.Clean(p)] = struct{}{}
	}
}

func (in inputs) unknown() { in[stdinName] = struct{}{} }

// list adds what the loaded stack refers to and returns all, or nil if not all of it is files.
func (in inputs) list(project *types.Project, files *tree) []string {
	in.add(files.read...)
	for _, s := range project.AllServices() {
		for _, f := range s.EnvFiles {
			in.add(f.Path)
		}
	}
	for _, s := range project.Secrets {
		if s.File != "" {
			in.add(s.File)
		}
	}
	for _, c := range project.Configs {
		if c.File != "" {
			in.add(c.File)
		}
	}
	if _, ok := in[stdinName]; ok {
		return nil
	}
	return slices.Sorted(maps.Keys(in))
}
