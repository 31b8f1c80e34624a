package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// parsePort reads the short form of a published port, as `run -p` takes it; a range gives one port each.
func parsePort(text string) ([]spec.Port, error) {
	parsed, err := types.ParsePortConfig(text)
	if err != nil {
		return nil, fmt.Errorf("--publish %s: %w", text, err)
	}
	ports := make([]spec.Port, len(parsed))
	for i, p := range parsed {
		if p.Target == 0 || p.Target > 65535 {
			return nil, fmt.Errorf("--publish %s: %d is no port", text, p.Target)
		}
		ports[i] = spec.Port{HostIP: p.HostIP, Published: p.Published, Target: uint16(p.Target), Protocol: orDefault(p.Protocol, "tcp")}
	}
	return ports, nil
}

// parseMount reads the short form of a mount, as `run -v` takes it; relative paths are relative to dir.
func parseMount(text, dir string) (spec.Mount, error) {
	v, err := format.ParseVolume(text)
	if err != nil {
		return spec.Mount{}, fmt.Errorf("--volume %s: %w", text, err)
	}
	m := spec.Mount{Type: v.Type, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
	if !filepath.IsAbs(m.Target) {
		return m, fmt.Errorf("--volume %s: the path in the container must be absolute", text)
	}
	switch {
	case v.Type == spec.MountBind:
		if m.Source, err = hostPath(m.Source, dir); err != nil {
			return m, fmt.Errorf("--volume %s: %w", text, err)
		}
		m.CreateHostPath = true
		if v.Bind != nil {
			m.Propagation, m.SELinux = v.Bind.Propagation, v.Bind.SELinux
		}
	case v.Type == spec.MountVolume:
		m.NoCopy = v.Volume != nil && v.Volume.NoCopy
	default:
		return m, fmt.Errorf("--volume %s: mounts of type %s are not supported", text, v.Type)
	}
	return m, nil
}

// hostPath makes the path of a bind absolute.
func hostPath(path, dir string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		return filepath.Join(home, rest), nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return filepath.Clean(path), nil
}

// withMount adds a mount, in the place of one with the same target.
func withMount(mounts []spec.Mount, m spec.Mount) []spec.Mount {
	result := make([]spec.Mount, 0, len(mounts)+1)
	for _, old := range mounts {
		if old.Target != m.Target {
			result = append(result, old)
		}
	}
	return append(result, m)
}

// declareVolumes is the stack with a declaration for each named volume that only the command line mentions. Such a volume has
// the name that was given, as with `docker compose run`.
func declareVolumes(stack *spec.Stack, mounts []spec.Mount) *spec.Stack {
	volumes := map[string]*spec.Volume{}
	for key, volume := range stack.Volumes {
		volumes[key] = volume
	}
	for _, m := range mounts {
		if m.Type == spec.MountVolume && m.Source != "" && volumes[m.Source] == nil {
			volumes[m.Source] = &spec.Volume{Key: m.Source, Name: m.Source}
		}
	}
	declared := *stack
	declared.Volumes = volumes
	return &declared
}

// readEnvFiles reads variables from files in the form of .env files; later files win.
func readEnvFiles(paths []string) (map[string]string, error) {
	all := map[string]string{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		values, err := dotenv.ParseWithLookup(f, os.LookupEnv)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = merged(all, values)
	}
	return all, nil
}
