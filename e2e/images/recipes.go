package images

import v1 "github.com/google/go-containerregistry/pkg/v1"

// image is what a recipe makes: tags on docker.io and the configuration of the official image of that name.
type image struct {
	recipe   string
	tags     []string
	onDebian bool // its layer lies on the small Debian; otherwise it is alone
	config   v1.Config
}

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var all = []image{
	{
		recipe: "busybox", tags: []string{"busybox:latest", "busybox:1"},
		config: v1.Config{Env: []string{path}, Cmd: []string{"sh"}},
	},
	{
		recipe: "nginx", tags: []string{"nginx:latest", "nginx:alpine"}, onDebian: true,
		config: v1.Config{
			Env: []string{path}, Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
		},
	},
	{
		recipe: "redis", tags: []string{"redis:latest", "redis:alpine", "redis:7-alpine"}, onDebian: true,
		config: v1.Config{
			Env: []string{path}, Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"},
			ExposedPorts: map[string]struct{}{"6379/tcp": {}}, Volumes: map[string]struct{}{"/data": {}}, WorkingDir: "/data",
		},
	},
	{
		recipe: "postgres", tags: []string{"postgres:latest", "postgres:15", "postgres:15-alpine"}, onDebian: true,
		config: v1.Config{
			Env:        []string{path + ":/usr/lib/postgresql/15/bin", "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8"},
			Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, StopSignal: "SIGINT",
			ExposedPorts: map[string]struct{}{"5432/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}},
		},
	},
	{
		recipe: "python", tags: []string{"python:latest", "python:3", "python:3-alpine"}, onDebian: true,
		config: v1.Config{Env: []string{path}, Cmd: []string{"python3"}},
	},
}
