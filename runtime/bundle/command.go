package bundle

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// initPath is where the init program of `init: true` is mounted. The program finds the container's command after "--".
const initPath = "/sbin/docker-init"

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command sets the arguments, environment, working directory and terminal of the first process.
func (b *builder) command() error {
	p := b.spec.Process
	p.Terminal = b.Service.TTY
	p.NoNewPrivileges = b.security.noNewPrivileges
	p.Args = b.args()
	p.Env = b.env()
	p.Cwd = cmp.Or(b.Service.WorkingDir, b.Image.WorkingDir, "/")
	if !path.IsAbs(p.Cwd) {
		return invalid("working_dir", "%q is not an absolute path", p.Cwd)
	}
	p.Cwd = path.Clean(p.Cwd)
	if len(p.Args) == 0 {
		return invalid("command", "neither the service nor the image says what to run; set command or entrypoint")
	}
	if p.Args[0] == "" {
		return invalid("command", "the program's name is empty")
	}
	if b.init() {
		if b.Host.Init == "" {
			return unsupported("init", "no init program is installed")
		}
		p.Args = append([]string{initPath, "--"}, p.Args...)
	}
	return nil
}

func (b *builder) init() bool { return b.Service.Init != nil && *b.Service.Init }

// args follows Docker: an entrypoint in the file, unless empty, makes the image's command meaningless; an empty one only
// clears the image's entrypoint.
func (b *builder) args() []string {
	entrypoint, command := b.Image.Entrypoint, b.Image.Cmd
	if e := b.Service.Entrypoint; e != nil {
		entrypoint = *e
		if len(*e) > 0 {
			command = nil
		}
	}
	if b.Service.Command != nil {
		command = *b.Service.Command
	}
	return slices.Concat(entrypoint, command)
}

// env is what Docker gives every container, overlaid by the image's and then the service's, each name once.
func (b *builder) env() []string {
	var order []string
	values := map[string]string{}
	set := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		if _, ok := values[name]; !ok {
			order = append(order, name)
		}
		values[name] = entry
	}
	set(defaultPath)
	if b.Network.Mode != HostNet || b.Service.Hostname != "" {
		set("HOSTNAME=" + Hostname(b.Service, b.ID))
	} else if b.Host.Hostname != "" {
		set("HOSTNAME=" + b.Host.Hostname)
	}
	if b.Service.TTY {
		set("TERM=xterm")
	}
	for _, entry := range b.Image.Env {
		set(entry)
	}
	for _, name := range slices.Sorted(maps.Keys(b.Service.Environment)) {
		set(name + "=" + b.Service.Environment[name])
	}
	for _, name := range slices.Sorted(maps.Keys(b.SecretEnv)) {
		set(name + "=" + b.SecretEnv[name])
	}
	env := make([]string, len(order))
	for i, name := range order {
		env[i] = values[name]
	}
	return env
}

// setDefaultEnv sets a variable that nothing else set.
func setDefaultEnv(p *specs.Process, name, value string) {
	for _, entry := range p.Env {
		if strings.HasPrefix(entry, name+"=") {
			return
		}
	}
	p.Env = append(p.Env, name+"="+value)
}
