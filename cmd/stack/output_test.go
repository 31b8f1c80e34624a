package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(goldenDir, name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

// Tests change the working directory, so the folder is found before.
var goldenDir = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()

func exampleContainers() []api.Container {
	now := time.Now()
	return []api.Container{
		{
			ID: "aaaaaaaaaaaa1111111111111111", Name: "demo-web-1", Stack: "demo", Service: "web", Replica: 1, Address: "service.web[1]",
			Image: "nginx:alpine", ImageID: "sha256:1111111111111111", Command: "/docker-entrypoint.sh nginx -g 'daemon off;'",
			Created: now.Add(-3 * time.Hour), Started: now.Add(-2 * time.Hour), State: "running", Health: "healthy",
			Ports: []api.PublishedPort{
				{HostIP: "::", Published: 8080, Target: 80, Protocol: "tcp"},
				{HostIP: "0.0.0.0", Published: 8080, Target: 80, Protocol: "tcp"},
				{HostIP: "0.0.0.0", Published: 8081, Target: 81, Protocol: "tcp"},
				{Target: 443, Protocol: "tcp"},
			},
			Labels:   map[string]string{"com.docker.compose.project": "demo", "a": "<b>"},
			Networks: map[string]api.NetworkAddress{"demo_default": {IPv4: "10.210.0.2"}},
			Mounts:   []string{"demo_data"},
		},
		{
			ID: "bbbbbbbbbbbb2222222222222222", Name: "demo-db-1", Stack: "demo", Service: "db", Replica: 1, Image: "postgres:16",
			ImageID: "sha256:2222222222222222", Command: "postgres",
			Created: now.Add(-3 * time.Hour), Finished: now.Add(-5 * time.Minute), State: "exited", ExitCode: 137,
		},
		{
			ID: "cccccccccccc3333333333333333", Name: "demo-old-1", Stack: "demo", Service: "old", Replica: 1, Image: "busybox",
			ImageID: "sha256:1111111111111111", Command: "sleep 1", Created: now.Add(-3 * time.Hour), Finished: now.Add(-time.Minute), State: "restarting", ExitCode: 1,
		},
	}
}

func TestPsPrintsAsComposeDoes(t *testing.T) {
	r := &recorder{containers: exampleContainers()}
	s := newSandbox(t, r, demo)
	for _, c := range []struct{ name, line string }{
		{"ps", "ps"},
		{"ps-all", "ps -a"},
		{"ps-exited", "ps --status exited"},
		{"ps-filter", "ps --filter status=running --services"},
		{"ps-quiet", "ps -q"},
		{"ps-services", "ps -a --services"},
		{"ps-one-service", "ps -a db --no-trunc"},
		{"ps-without-orphans", "ps --orphans=false"},
		{"ps-template", `ps --format {{.Name}}:{{.State}}\t{{json\x20.Health}}`},
		{"ps-table-template", `ps --format table\x20{{.Name}}\t{{.Ports}}\t{{.Status}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := strings.Fields(c.line)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], `\x20`, " ")
			}
			got := s.stack(args...)
			if got.code != 0 {
				t.Fatalf("exit %d: %s", got.code, got.err)
			}
			golden(t, c.name, got.out)
		})
	}
	t.Run("ps-json", func(t *testing.T) {
		got := s.stack("ps", "--format", "json", "-a")
		created := exampleContainers()[0].Created.UTC().Format("2006-01-02 15:04:05")
		// The time of creation is the only part that differs from run to run.
		masked := got.out
		for _, seconds := range []time.Duration{0, -time.Second, -2 * time.Second, -3 * time.Second} {
			at := exampleContainers()[0].Created.Add(seconds).UTC().Format("2006-01-02 15:04:05")
			masked = strings.ReplaceAll(masked, at, "CREATED")
		}
		if masked == got.out {
			t.Errorf("no time like %s in %s", created, got.out)
		}
		golden(t, "ps-json", masked)
	})
}

func TestListsPrintAsComposeDoes(t *testing.T) {
	day := 24 * time.Hour
	r := &recorder{
		containers: exampleContainers(),
		stacks: []api.StackSummary{
			{Name: "shop", Files: []string{"/srv/shop/compose.yaml", "/srv/shop/prod.yaml"}, States: map[string]int{"running": 2, "exited": 1}},
			{Name: "demo", Files: []string{"/srv/demo/compose.yaml"}, States: map[string]int{"running": 1}},
			{Name: "done", Files: []string{"/srv/done/compose.yaml"}, States: map[string]int{"exited": 1}},
		},
		images: []api.Image{
			{ID: "sha256:1111111111111111", Names: []string{"docker.io/library/nginx:alpine", "registry.example.com:5000/web:2"}, Digest: "sha256:aaaa", Size: 15_200_000, Created: time.Now().Add(-3 * day), Platform: "linux/amd64"},
			{ID: "sha256:3333333333333333", Size: 1_000, Created: time.Now().Add(-90 * day), Platform: "linux/amd64"},
		},
		volumes: []api.Volume{
			{Name: "demo_data", Driver: "local", Mountpoint: "/var/lib/stack/volumes/demo_data/_data", Stack: "demo", Labels: map[string]string{"a": "b"}},
			{Name: "anonymous", Driver: "local", Anonymous: true},
		},
		networks: []api.Network{
			{Name: "demo_default", ID: "dddddddddddddddd", Driver: "bridge", Subnets: []string{"10.210.0.0/24", "fd00::/64"}, Stack: "demo"},
		},
	}
	s := newSandbox(t, r, demo)
	for _, c := range []struct{ name, line string }{
		{"ls", "ls"},
		{"ls-all-json", "ls -a --format json"},
		{"ls-filter", "ls -a -q --filter name=d*"},
		{"images", "images"},
		{"images-quiet", "images -q"},
		{"image-ls", "image ls"},
		{"image-ls-quiet", "image ls -q"},
		{"image-inspect", "image inspect nginx:alpine"},
		{"volume-ls", "volume ls"},
		{"volume-ls-json", "volume ls --format json"},
		{"volume-inspect", "volume inspect demo_data"},
		{"network-ls", "network ls"},
		{"network-ls-quiet", "network ls -q"},
		{"port", "port web 80"},
		{"version", "version"},
		{"version-short", "version --short"},
		{"version-json", "version --format json"},
		{"config-services", "config --services"},
		{"config-images", "config --images"},
		{"config-volumes", "config --volumes"},
		{"config-profiles", "config --profiles"},
		{"config-json", "config --format json db"},
		{"config", "config"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.stack(strings.Fields(c.line)...)
			if got.code != 0 {
				t.Fatalf("exit %d: %s", got.code, got.err)
			}
			golden(t, c.name, got.out)
		})
	}
	if got := s.stack("port", "web", "81", "--protocol", "udp"); got.code != 1 || !strings.Contains(got.err, "no port 81/udp for container demo-web-1") {
		t.Errorf("a port that is not published: %+v", got)
	}
	if got := s.stack("volume", "inspect", "demo_data", "nothing"); got.code != 1 || !strings.Contains(got.err, "no such volume: nothing") {
		t.Errorf("a volume that does not exist: %+v", got)
	}
	if got := s.stack("config", "-q"); got.code != 0 || got.out != "" {
		t.Errorf("config -q: %+v", got)
	}
}
