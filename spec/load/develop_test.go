package load

import (
	"context"
	"path/filepath"
	"reflect"
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
