package load

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"

	"github.com/stack-run/stack/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// tree of files in a directory of its own.
type files map[string]string

func (f files) write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	for name, content := range f {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stackOf loads compose.yaml with the given content, which must have no errors.
func stackOf(t testing.TB, content string, env ...string) *spec.Stack {
	t.Helper()
	dir := files{"compose.yaml": content}.write(t)
	r, err := Load(context.Background(), Options{WorkingDir: dir, Environ: env})
	if err != nil {
		t.Fatal(err)
	}
	return r.Stack
}

// diagnosticsOf loads what is in the directory and returns all findings, paths relative to it.
func diagnosticsOf(t testing.TB, dir string, o Options) spec.Diagnostics {
	t.Helper()
	o.WorkingDir = dir
	var ds spec.Diagnostics
	r, err := Load(context.Background(), o)
	switch {
	case err == nil:
		ds = r.Warnings
	case !errors.As(err, &ds):
		t.Fatalf("the error is a %T, not diagnostics: %v", err, err)
	}
	for i := range ds {
		for _, s := range []*string{&ds[i].File, &ds[i].Summary, &ds[i].Remedy} {
			*s = strings.ReplaceAll(*s, dir+string(filepath.Separator), "")
			*s = strings.ReplaceAll(*s, dir, ".")
		}
	}
	return ds
}

// Each directory in testdata/diagnostics is a stack with mistakes; what is said of it stands beside it.
func TestDiagnostics(t *testing.T) {
	cases, err := os.ReadDir(filepath.Join("testdata", "diagnostics"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name(), func(t *testing.T) {
			dir, err := filepath.Abs(filepath.Join("testdata", "diagnostics", c.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got := diagnosticsOf(t, dir, Options{}).Error() + "\n"
			golden := filepath.Join(dir, "expected.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestDiscovery(t *testing.T) {
	const web = "services: {web: {image: nginx}}\n"
	for name, c := range map[string]struct {
		files   files
		in      string // directory below
		options Options
		name    string
		read    []string
		image   string
	}{
		"compose.yaml wins":            {files{"compose.yaml": web, "docker-compose.yml": web, "stack.yaml": web}, "", Options{}, "app", []string{"compose.yaml"}, "nginx"},
		"stack.yml is found":           {files{"stack.yml": web}, "", Options{}, "app", []string{"stack.yml"}, "nginx"},
		"the override is added":        {files{"compose.yaml": web, "compose.override.yaml": "services: {web: {image: other}}"}, "", Options{}, "app", []string{"compose.yaml", "compose.override.yaml"}, "other"},
		"in a directory above":         {files{"compose.yaml": web, "a/b/x": ""}, "a/b", Options{}, "app", []string{"compose.yaml"}, "nginx"},
		"by -f, name of its directory": {files{"My App/f.yaml": web}, "", Options{Files: []string{"My App/f.yaml"}}, "myapp", []string{"My App/f.yaml"}, "nginx"},
		"several -f":                   {files{"a.yaml": web, "b.yaml": "services: {web: {image: other}}"}, "", Options{Files: []string{"a.yaml", "b.yaml"}}, "app", []string{"a.yaml", "b.yaml"}, "other"},
		"-f from standard input":       {files{}, "", Options{Files: []string{"-"}, Stdin: strings.NewReader(web)}, "app", nil, "nginx"},
		"COMPOSE_FILE":                 {files{"a.yaml": web, "b.yaml": "name: b"}, "", Options{Environ: []string{"COMPOSE_FILE=a.yaml:b.yaml"}}, "b", []string{"a.yaml", "b.yaml"}, "nginx"},
		"COMPOSE_PATH_SEPARATOR":       {files{"a.yaml": web, "b.yaml": "name: b"}, "", Options{Environ: []string{"COMPOSE_FILE=a.yaml,b.yaml", "COMPOSE_PATH_SEPARATOR=,"}}, "b", []string{"a.yaml", "b.yaml"}, "nginx"},
		"COMPOSE_FILE in .env":         {files{"a.yaml": web, ".env": "COMPOSE_FILE=a.yaml"}, "", Options{}, "app", []string{"a.yaml"}, "nginx"},
		"name by -p":                   {files{"compose.yaml": "name: in-file\n" + web}, "", Options{ProjectName: "given"}, "given", []string{"compose.yaml"}, "nginx"},
		"name by COMPOSE_PROJECT_NAME": {files{"compose.yaml": "name: in-file\n" + web}, "", Options{Environ: []string{"COMPOSE_PROJECT_NAME=env"}}, "env", []string{"compose.yaml"}, "nginx"},
		"name by the file":             {files{"compose.yaml": "name: in-file\n" + web}, "", Options{}, "in-file", []string{"compose.yaml"}, "nginx"},
		"name by a variable":           {files{"compose.yaml": "name: ${N:-dflt}\n" + web}, "", Options{}, "dflt", []string{"compose.yaml"}, "nginx"},
		"project directory":            {files{"f.yaml": "services: {web: {image: \"${I}\"}}", "d/.env": "I=fromdir"}, "", Options{Files: []string{"f.yaml"}, ProjectDirectory: "d"}, "d", []string{"f.yaml"}, "fromdir"},
		"the environment before .env":  {files{"compose.yaml": "services: {web: {image: \"${I}\"}}", ".env": "I=file"}, "", Options{Environ: []string{"I=env"}}, "app", []string{"compose.yaml"}, "env"},
		"--env-file instead of .env":   {files{"compose.yaml": "services: {web: {image: \"${I}\"}}", ".env": "I=file", "x.env": "I=x"}, "", Options{EnvFiles: []string{"x.env"}}, "app", []string{"compose.yaml"}, "x"},
		"COMPOSE_ENV_FILES":            {files{"compose.yaml": "services: {web: {image: \"${I}\"}}", "x.env": "I=x", "y.env": "I=y"}, "", Options{Environ: []string{"COMPOSE_ENV_FILES=x.env,y.env"}}, "app", []string{"compose.yaml"}, "y"},
		"COMPOSE_DISABLE_ENV_FILE":     {files{"compose.yaml": "services: {web: {image: \"${I:-none}\"}}", ".env": "I=file"}, "", Options{Environ: []string{"COMPOSE_DISABLE_ENV_FILE=1"}}, "app", []string{"compose.yaml"}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			c.files[c.in+"/.keep"] = ""
			root := c.files.write(t)
			o := c.options
			o.WorkingDir = filepath.Join(root, c.in)
			r, err := Load(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Stack.Name != c.name {
				t.Errorf("name %q, want %q", r.Stack.Name, c.name)
			}
			var want []string
			for _, f := range c.read {
				want = append(want, filepath.Join(root, f))
			}
			if strings.Join(r.Stack.Files, " ") != strings.Join(want, " ") {
				t.Errorf("files %v, want %v", r.Stack.Files, want)
			}
			if got := r.Stack.Services["web"].Image; got != c.image {
				t.Errorf("image %q, want %q", got, c.image)
			}
		})
	}
}

func TestNothingToLoad(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		want    string
	}{
		"no file anywhere":      {Options{}, "no stack file found in ."},
		"a file that is absent": {Options{Files: []string{"gone.yaml"}}, "gone.yaml: can't read the stack file: no such file or directory"},
		"a directory as a file": {Options{Files: []string{"."}}, "can't read the stack file: is a directory"},
		"a bad name":            {Options{ProjectName: "No Good"}, `invalid stack name "No Good", given by -p`},
		"an absent env file":    {Options{EnvFiles: []string{"gone.env"}}, "couldn't find env file: gone.env"},
		"a bad switch":          {Options{Environ: []string{"COMPOSE_DISABLE_ENV_FILE=perhaps"}}, `COMPOSE_DISABLE_ENV_FILE has the value "perhaps"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files{".keep": ""}.write(t)
			if c.options.ProjectName != "" {
				dir = files{"compose.yaml": "services: {}"}.write(t)
			}
			if got := diagnosticsOf(t, dir, c.options).Error(); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestProfilesAndNamedServices(t *testing.T) {
	const content = `
services:
  web: {image: nginx, depends_on: {debug: {condition: service_started, required: false}}}
  debug: {image: busybox, profiles: [tools], env_file: debug.env}
  gpu: {image: cuda, profiles: [ml], gpus: all}
`
	for name, c := range map[string]struct {
		options  Options
		services string
		disabled string
	}{
		"no profile":                  {Options{}, "web", "debug gpu"},
		"by flag":                     {Options{Profiles: []string{"tools"}}, "debug web", "gpu"},
		"by environment":              {Options{Environ: []string{"COMPOSE_PROFILES=x, tools"}}, "debug web", "gpu"},
		"by naming a service of them": {Options{Services: []string{"debug"}}, "debug web", "gpu"},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.options
			o.WorkingDir = files{"compose.yaml": content, "debug.env": "D=1"}.write(t)
			r, err := Load(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(sortedKeys(r.Stack.Services), " "); got != c.services {
				t.Errorf("services %s, want %s", got, c.services)
			}
			if got := strings.Join(sortedKeys(r.Stack.Disabled), " "); got != c.disabled {
				t.Errorf("disabled %s, want %s", got, c.disabled)
			}
			if d := r.Stack.Services["debug"]; d != nil && d.Environment["D"] != "1" {
				t.Error("the env file of the service that was enabled is not read")
			}
			_, depends := r.Stack.Services["web"].DependsOn["debug"]
			if depends != (r.Stack.Services["debug"] != nil) {
				t.Error("an optional dependency must stay if and only if the service is enabled")
			}
		})
	}
}

func TestObservingForgivesWhatOnlyCreatingNeeds(t *testing.T) {
	dir := files{"compose.yaml": `
services:
  web: {image: "nginx:${TAG}", env_file: gone.env, secrets: [key]}
secrets: {key: {file: gone.key}}
`}.write(t)
	if ds := diagnosticsOf(t, dir, Options{}); !ds.HasErrors() {
		t.Errorf("no error without the files: %v", ds)
	}
	ds := diagnosticsOf(t, dir, Options{Observing: true})
	if ds.HasErrors() || len(ds) != 4 {
		t.Errorf("want four warnings: %v", ds)
	}
}

// The net under the tree: what compose-go finds unsupported and the walk did not report is refused all the same.
func TestAttributesThatTheTreeMissesAreRefused(t *testing.T) {
	tr := parseTree(&source{files: []sourceFile{{name: "f", content: []byte("services: {web: {image: x}, off: {image: x}}")}}})
	found := []loader.UnsupportedAttribute{
		{Path: "services.web.volumes.[].image"}, {Path: "services.web.gpus"}, {Path: "services.off.gpus"},
	}
	reported := spec.Diagnostics{{Severity: spec.Error, Path: "services.web.volumes[1].image"}}
	got := tr.unseen(found, reported, func(s string) bool { return s == "web" })
	if len(got) != 1 || got[0].Path != "services.web.gpus" || got[0].Line != 1 {
		t.Errorf("got %v", got)
	}
}

// Everything in the tables is an attribute of the specification, and is in one table only.
func TestTablesMatchTheSpecification(t *testing.T) {
	inSpec := map[string]bool{}
	for _, p := range schema.AttributePaths() {
		inSpec[string(p)] = true
	}
	seen := map[string]bool{}
	paths := strings.Fields(supported)
	for _, a := range ignored {
		paths = append(paths, a.path)
	}
	for _, a := range refused {
		paths = append(paths, a.path)
	}
	for _, p := range paths {
		if !inSpec[p] {
			t.Errorf("%s is not in the specification", p)
		}
		if seen[p] {
			t.Errorf("%s is in the tables twice", p)
		}
		seen[p] = true
	}
}

// Casts of attributes that no file has are left out; those of attributes in any file that takes part are not.
func TestTextsAreCastWhereverTheyStand(t *testing.T) {
	dir := files{
		"compose.yaml":          "include: [inc.yaml]\nservices:\n  web: {image: x, privileged: \"${YES}\", extends: {file: base.yaml, service: app}}\n",
		"base.yaml":             "services:\n  app:\n    <<: &x {tty: \"${YES}\"}\n    healthcheck: {test: a, retries: \"${N}\"}\n    ulimits: {nofile: {soft: \"${N}\", hard: \"9\"}}\n",
		"inc.yaml":              "services:\n  db: {image: x, read_only: \"true\", deploy: {replicas: \"${N}\"}}\nnetworks: {default: {internal: \"${YES}\"}}\n",
		"compose.override.yaml": "services: {web: {scale: \"${N}\"}}\n",
	}.write(t)
	r, err := Load(t.Context(), Options{WorkingDir: dir, Environ: []string{"YES=true", "N=7"}})
	if err != nil {
		t.Fatal(err)
	}
	web, db := r.Stack.Services["web"], r.Stack.Services["db"]
	if !web.Privileged || !web.TTY || web.Healthcheck.Retries != 7 || web.Ulimits["nofile"].Soft != 7 || web.Replicas != 7 {
		t.Errorf("web: %+v", web)
	}
	if !db.ReadOnly || db.Replicas != 7 || !r.Stack.Networks["default"].Internal {
		t.Errorf("db: %+v", db)
	}
}
