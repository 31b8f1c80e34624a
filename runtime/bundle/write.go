package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ConfigName is the runtime-spec configuration's file name in the bundle folder.
const ConfigName = "config.json"

// Write puts the bundle on the disk: first the files, last config.json, each at once or not at all. Writing again
// replaces everything, which is how a container gets its secrets back after a reboot: they are on a tmpfs. Nothing is
// synced to the disk, because a bundle is always written anew after a reboot.
func (b *Bundle) Write() error {
	if b.hasSecrets() || b.sealed {
		if err := os.MkdirAll(b.secretsDir, 0o700); err != nil {
			return err
		}
	}
	for _, f := range b.Files {
		if err := f.write(); err != nil {
			return err
		}
	}
	config, err := json.Marshal(b.Spec)
	if err != nil {
		return fmt.Errorf("encode %s: %w", ConfigName, err)
	}
	if b.sealed {
		return b.writeSealed(config)
	}
	return HostFile{Path: filepath.Join(b.Dir, ConfigName), Content: config, Mode: 0o600}.write()
}

// writeSealed keeps a configuration with secret variables on the tmpfs; in the bundle's folder is a symlink to it.
func (b *Bundle) writeSealed(config []byte) error {
	sealed := filepath.Join(b.secretsDir, ConfigName)
	if err := (HostFile{Path: sealed, Content: config, Mode: 0o600}).write(); err != nil {
		return err
	}
	link := filepath.Join(b.Dir, ConfigName)
	if err := os.Remove(link + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(sealed, link+".new"); err != nil {
		return err
	}
	return os.Rename(link+".new", link)
}

func (b *Bundle) hasSecrets() bool {
	for _, f := range b.Files {
		if b.secretsDir != "" && filepath.Dir(f.Path) == b.secretsDir {
			return true
		}
	}
	return false
}

// write makes the file under another name, which a crash may leave behind and the next write uses again, and renames it.
func (f HostFile) write() (err error) {
	if f.unchanged() {
		return nil
	}
	temporary := f.Path + ".new"
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temporary)
		}
	}()
	_, err = out.Write(f.Content)
	if err == nil {
		err = out.Chown(f.UID, f.GID)
	}
	if err == nil {
		err = out.Chmod(f.Mode)
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary, f.Path)
}

// unchanged spares a restart the replacing of files, which some file systems answer by writing to the disk at once.
func (f HostFile) unchanged() bool {
	st, err := os.Lstat(f.Path)
	if err != nil || st.Mode() != f.Mode || st.Size() != int64(len(f.Content)) {
		return false
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != f.UID || int(owner.Gid) != f.GID {
		return false
	}
	content, err := os.ReadFile(f.Path)
	return err == nil && bytes.Equal(content, f.Content)
}
