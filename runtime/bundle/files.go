package bundle

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// HostFile is a file of the container on the host.
type HostFile struct {
	Path     string
	Content  []byte
	Mode     os.FileMode
	UID, GID int // on the host
}

// The container's own files, by name in its bundle folder and place in the container.
var networkFiles = []struct{ name, target string }{
	{"resolv.conf", "/etc/resolv.conf"},
	{"hostname", "/etc/hostname"},
	{"hosts", "/etc/hosts"},
}

// ownFiles lists hosts, hostname and resolv.conf, secrets and configs, and the init program, with their mounts.
func (b *builder) ownFiles() error {
	files, err := networkContent(b.Input)
	if err != nil {
		return err
	}
	b.bundle.Files = files
	dir := b.Dir
	if b.Network.FilesFrom != "" {
		dir = b.Network.FilesFrom
	}
	options := []string{"rbind", "rprivate"}
	if b.Service.ReadOnly {
		options = append(options, "ro")
	}
	for _, f := range networkFiles {
		b.fileMounts = append(b.fileMounts, bindMount(filepath.Join(dir, f.name), f.target, options...))
	}
	if b.init() && b.Host.Init != "" {
		b.fileMounts = append(b.fileMounts, bindMount(b.Host.Init, initPath, "bind", "rprivate", "ro"))
	}
	if err := b.content("secrets", b.Secrets); err != nil {
		return err
	}
	return b.content("configs", b.Configs)
}

func bindMount(source, target string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: target, Options: options}
}

// content adds secrets or configs: files below SecretsDir, each mounted read-only at its target.
func (b *builder) content(kind string, list []File) error {
	for i, f := range list {
		attribute := fmt.Sprintf("%s[%d]", kind, i)
		target := path.Clean(f.Target)
		if !path.IsAbs(f.Target) || target == "/" {
			return invalid(attribute, "target %q of %s is not an absolute path", f.Target, f.Name)
		}
		if b.SecretsDir == "" {
			return fmt.Errorf("%s: no folder to keep %s in", attribute, f.Name)
		}
		uid, err := fileOwner(f.UID, b.UIDs)
		if err != nil {
			return invalid(attribute+".uid", "%w", err)
		}
		gid, err := fileOwner(f.GID, b.GIDs)
		if err != nil {
			return invalid(attribute+".gid", "%w", err)
		}
		mode := os.FileMode(f.Mode & 0o777)
		if f.Mode == 0 {
			mode = 0o444
		}
		source := filepath.Join(b.SecretsDir, kind+"-"+strconv.Itoa(i))
		b.bundle.Files = append(b.bundle.Files, HostFile{Path: source, Content: f.Content, Mode: mode, UID: uid, GID: gid})
		b.secretMounts = append(b.secretMounts, bindMount(source, target, "bind", "rprivate", "ro", "nosuid", "nodev", "noexec"))
	}
	return nil
}

// fileOwner is the id on the host of an id in the container.
func fileOwner(text string, maps []specs.LinuxIDMapping) (int, error) {
	id := uint64(0)
	if text != "" {
		var err error
		if id, err = strconv.ParseUint(text, 10, 31); err != nil {
			return 0, fmt.Errorf("%q is not a number", text)
		}
	}
	return hostID(uint32(id), maps)
}

func hostID(id uint32, maps []specs.LinuxIDMapping) (int, error) {
	if len(maps) == 0 {
		return int(id), nil
	}
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + id - m.ContainerID), nil
		}
	}
	return 0, fmt.Errorf("%d is outside of the container's user namespace", id)
}
