package load

import (
	"context"
	"reflect"
	"strings"
	"testing"
)

const shop = `
services:
  web:
    image: nginx:${TAG:-1}
    depends_on: [db]
    env_file: web.env
    environment: {PRICE: "5$$"}
    ports: ["8080:80"]
  db: {image: redis, volumes: [data:/d]}
  tool: {image: busybox, profiles: [tools]}
volumes: {data: , unused: }
`

func shopDir(t *testing.T) string {
	return files{"compose.yaml": shop, "web.env": "FROM=file\n"}.write(t)
}

// What `config` writes loads again as the same stack.
func TestRenderedProjectsLoadAgain(t *testing.T) {
	for _, format := range []string{"yaml", "json"} {
		t.Run(format, func(t *testing.T) {
			dir := shopDir(t)
			o := Options{WorkingDir: dir}
			out, warnings, err := Render(context.Background(), o, RenderOptions{Format: format})
			if err != nil || len(warnings) != 0 {
				t.Fatal(err, warnings)
			}
			first, err := Load(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			o.Files, o.Stdin = []string{"-"}, strings.NewReader(string(out))
			second, err := Load(context.Background(), o)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for name, s := range first.Stack.Services {
				if s.Digest() != second.Stack.Services[name].Digest() {
					t.Errorf("%s: %s\nis not\n%s", name, asJSON(t, s), asJSON(t, second.Stack.Services[name]))
				}
			}
			if second.Inputs != nil {
				t.Error("a load from standard input must not say that it depends on files only")
			}
		})
	}
}

func TestRenderOptions(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		services []string
		options  RenderOptions
		want     []string
		unwanted []string
	}{
		"as it is":           {nil, RenderOptions{}, []string{"name: app", "image: nginx:1", "FROM: file", "PRICE: 5$$", "name: app_default", "name: app_data"}, []string{"env_file", "unused", "busybox"}},
		"no interpolation":   {nil, RenderOptions{NoInterpolate: true}, []string{"nginx:${TAG:-1}"}, nil},
		"no environment":     {nil, RenderOptions{NoEnvResolution: true}, []string{"env_file"}, []string{"FROM"}},
		"no normalisation":   {nil, RenderOptions{NoNormalize: true}, []string{"image: nginx:1"}, []string{"app_default"}},
		"one service":        {[]string{"db"}, RenderOptions{}, []string{"image: redis"}, []string{"nginx"}},
		"a disabled service": {[]string{"tool"}, RenderOptions{}, []string{"busybox"}, []string{"nginx"}},
		"digests": {nil, RenderOptions{ResolveDigest: func(context.Context, string) (string, error) { return digest, nil }},
			[]string{"nginx:1@" + digest, "docker.io/library/redis:latest@" + digest}, nil},
		"digests locked": {nil, RenderOptions{LockDigests: true, ResolveDigest: func(context.Context, string) (string, error) { return digest, nil }},
			[]string{"nginx:1@" + digest}, []string{"ports", "volumes"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := Render(context.Background(), Options{WorkingDir: shopDir(t), Services: c.services}, c.options)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
			for _, unwanted := range c.unwanted {
				if strings.Contains(string(out), unwanted) {
					t.Errorf("%q is in\n%s", unwanted, out)
				}
			}
		})
	}
}

func TestRenderRefusesWhatLoadRefuses(t *testing.T) {
	dir := files{"compose.yaml": "services: {web: {image: x, gpus: all}}"}.write(t)
	for _, r := range []RenderOptions{{}, {NoInterpolate: true}, {NoNormalize: true}, {NoEnvResolution: true}} {
		if out, _, err := Render(context.Background(), Options{WorkingDir: dir}, r); err == nil {
			t.Errorf("%+v: written as\n%s", r, out)
		}
	}
	if _, _, err := Render(context.Background(), Options{WorkingDir: dir}, RenderOptions{Format: "xml"}); err == nil {
		t.Error("an unknown format is accepted")
	}
}

func TestListsOfConfig(t *testing.T) {
	dir := shopDir(t)
	r, err := Load(context.Background(), Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := r.Hashes()
	if err != nil {
		t.Fatal(err)
	}
	variables, err := Variables(context.Background(), Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	environment, err := Environment(Options{WorkingDir: dir, Environ: []string{"B=2", "A=1"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want any }{
		"services":    {r.ServiceNames(), []string{"db", "web"}},
		"volumes":     {r.VolumeNames(), []string{"data"}},
		"networks":    {r.NetworkNames(), []string{"default"}},
		"images":      {r.Images(), []string{"redis", "nginx:1"}},
		"profiles":    {r.Profiles(), []string{"tools"}},
		"hashes":      {len(hashes), 2},
		"variables":   {variables, []Variable{{Name: "TAG", Default: "1"}}},
		"environment": {environment, []string{"A=1", "B=2", "PWD=" + dir}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
}
