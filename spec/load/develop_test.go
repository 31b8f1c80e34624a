package load

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stack-run/stack/spec"
)

func TestWatchRulesAreTakenAsTheFileHasThem(t *testing.T) {
	dir := files{"src/main.py": "", "compose.yaml": `
services:
  web:
    image: python
    build: {context: ./src, dockerfile: web.Dockerfile}
    x-stack: {build: make image}
    develop:
      watch:
        - {path: ./src, target: app, action: sync+restart, ignore: [node_modules/, "!keep"], include: "*.py", initial_sync: true}
        - path: src/main.py
          action: sync+exec
          target: /app/main.py
          exec: {command: kill -HUP 1, user: root, privileged: true, working_dir: /app, environment: [A=b]}
  job: {image: busybox, develop: {watch: [{path: ../elsewhere, action: restart}]}}
`}.write(t)
	r, err := Load(context.Background(), Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "compose.yaml")
	for service, want := range map[string]*spec.Develop{
		"web": {Context: filepath.Join(dir, "src"), Dockerfile: "web.Dockerfile", Watch: []spec.WatchRule{
			{
				Path: filepath.Join(dir, "src"), Target: "/app", Action: spec.WatchSyncRestart, Include: []string{"*.py"},
				Ignore: []string{"node_modules/", "!keep"}, InitialSync: true, Position: file + ":9:38",
			},
			{
				Path: filepath.Join(dir, "src", "main.py"), Target: "/app/main.py", Action: spec.WatchSyncExec, Position: file + ":11:11",
				Exec: &spec.WatchExec{Command: []string{"kill", "-HUP", "1"}, User: "root", Privileged: true, WorkingDir: "/app", Environment: map[string]string{"A": "b"}},
			},
		}},
		"job": {Watch: []spec.WatchRule{{Path: filepath.Join(filepath.Dir(dir), "elsewhere"), Action: spec.WatchRestart, Position: file + ":14:64"}}},
	} {
		if got := r.Stack.Services[service].Develop; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", service, got, want)
		}
	}
}

// A service that a command builds needs no image; the command gives it one by the name that Compose would.
func TestABuildCommandGivesAServiceItsImage(t *testing.T) {
	s := stackOf(t, `
name: shop
services:
  web: {build: ., x-stack: {build: make image}}
  other: {build: ., image: named:1, x-stack: {build: make other}}
`)
	for service, want := range map[string]string{"web": "shop-web", "other": "named:1"} {
		if got := s.Services[service].Image; got != want {
			t.Errorf("image of %s: %q, want %q", service, got, want)
		}
	}
}

// Which files a rule is about, a link may decide; where it leads is resolved, and the link itself told.
func TestLinksOnTheWayToWatchedFilesAreTold(t *testing.T) {
	dir := files{
		"compose.yaml": `
include: [sub/more.yaml]
services:
  web:
    image: x
    develop: {watch: [{path: ./plain, target: /a, action: sync}, {path: "./${NAME:-current}/src", target: /b, action: sync}]}
`,
		"sub/more.yaml": `services: {job: {image: x, develop: {watch: [{path: ./link, action: restart}]}}}`,
		"v1/src/f":      "", "plain/f": "",
	}.write(t)
	for link, to := range map[string]string{"current": "v1", "sub/link": "../plain"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Load(context.Background(), Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{dir + "/current", dir + "/sub/link"}; !slices.Equal(r.Links, want) {
		t.Errorf("links %v instead of %v", r.Links, want)
	}
	if got, want := r.Stack.Services["web"].Develop.Watch[1].Path, dir+"/v1/src"; got != want {
		t.Errorf("the rule is about %s instead of %s", got, want)
	}
}
