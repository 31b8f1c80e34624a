package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// findCommand tells why a program can't be executed: CodeNoCommand, CodeNotExec, or "" when it is there and executable. The
// runtime's own error is only words. root is the container's root as this process sees it; mounts are those that will be
// made in it, and are not there yet.
func findCommand(root string, mounts []specs.Mount, p *specs.Process) shim.Code {
	code := shim.CodeNoCommand
	for _, path := range candidates(p) {
		info, err := statIn(root, mounts, path)
		switch {
		case err != nil || info.IsDir():
		case info.Mode()&0o111 != 0:
			return ""
		default:
			code = shim.CodeNotExec
		}
	}
	return code
}

// candidates are the files that may be meant by the first argument.
func candidates(p *specs.Process) []string {
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return []string{absolute(p.Cwd, name)}
	}
	var all []string
	for _, env := range p.Env {
		if path, ok := strings.CutPrefix(env, "PATH="); ok {
			all = nil
			for dir := range strings.SplitSeq(path, ":") {
				all = append(all, filepath.Join(absolute(p.Cwd, dir), name))
			}
		}
	}
	return all
}

func absolute(cwd, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(cwd, path)
}

// statIn finds a file below root, or below the source of the mount that will cover it.
func statIn(root string, mounts []specs.Mount, path string) (os.FileInfo, error) {
	for _, m := range slices.Backward(mounts) {
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.Destination, "/"))
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			return nil, os.ErrNotExist
		}
		if rest == "" {
			return os.Stat(m.Source)
		}
		root, path = m.Source, rest
		break
	}
	real, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return nil, err
	}
	return os.Stat(real)
}

func commandError(code shim.Code, name string) error {
	switch {
	case code == shim.CodeNotExec:
		return shimError(code, "exec: %q: permission denied", name)
	case strings.Contains(name, "/"):
		return shimError(code, "exec: %q: no such file or directory", name)
	}
	return shimError(code, "exec: %q: executable file not found in $PATH", name)
}
