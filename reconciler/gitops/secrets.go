package gitops

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/reconciler/gitops/checkout"
	"github.com/stack-run/stack/reconciler/gitops/sops"
	"github.com/stack-run/stack/spec"
)

// What SOPS encrypted in a repository is decrypted in memory, and kept below the run folder, on a tmpfs, one file a value
// or file. Records name these files. On the disk there is only the encrypted form of each, so that a starting daemon
// can put back what a reboot took before any container starts; see Restore.

var errDecrypt = errors.New("can't decrypt")

// sealed is how a decrypted value is come by again, kept under the value's name.
type sealed struct {
	Name string `json:"name"`           // of the encrypted file, which tells its format
	File string `json:"file"`           // the copy of it, in the same folder
	Text string `json:"text,omitempty"` // what stands for the value in it; empty is the whole file
}

func sealedFolder(dir string) string { return filepath.Join(dir, "sealed") }

// decrypt replaces what is encrypted in a stack by files on the tmpfs.
func (x *attempt) decrypt(p *prepared, t *checkout.Tree, inputs []string) error {
	values := map[string]string{}       // what stands in the file: the decrypted value's file
	metadata := map[string]string{}     // SOPS's own variables, which are nobody's
	plainFiles := map[string][]string{} // decrypted file: its path and digest
	for _, file := range inputs {
		data, err := os.ReadFile(file)
		if err != nil || !sops.Encrypted(file, data) {
			continue // absent, or plain
		}
		rel, _ := filepath.Rel(t.Top, file)
		if !onTmpfs(x.c.opts.RunDir) {
			return fmt.Errorf("%w %s: the run folder %s is not on a tmpfs, and what is decrypted may be on no disk; start the daemon with one that is (STACK_RUN, or --run-dir)", errDecrypt, rel, x.c.opts.RunDir)
		}
		keys, err := x.c.keys()
		if err != nil {
			return fmt.Errorf("%w: %w", errDecrypt, err)
		}
		plain, err := keys.Decrypt(file, data)
		if err != nil {
			return fmt.Errorf("%w %s: %w", errDecrypt, rel, err)
		}
		x.hide(slices.Collect(maps.Values(plain.Values))...)
		kept, err := x.keepEncrypted(data)
		if err != nil {
			return err
		}
		name, err := x.seal(plain.Content, sealed{Name: filepath.Base(file), File: kept})
		if err != nil {
			return err
		}
		plainFiles[file] = []string{filepath.Join(x.c.runDir(x.name), name), "hmac:" + name}
		for text, value := range plain.Values {
			name, err := x.seal([]byte(value), sealed{Name: filepath.Base(file), File: kept, Text: text})
			if err != nil {
				return err
			}
			values[text] = filepath.Join(x.c.runDir(x.name), name)
		}
		for _, name := range plain.Metadata {
			metadata[name] = file
		}
	}
	if len(plainFiles) == 0 {
		return nil
	}
	for _, svc := range p.desired.Workloads() {
		sealEnvironment(svc, values, metadata)
		for _, mounts := range [][]spec.FileMount{svc.Secrets, svc.Configs} {
			for i, m := range mounts {
				f := p.desired.Secrets[m.Source]
				if f == nil {
					f = p.desired.Configs[m.Source]
				}
				if f != nil && plainFiles[f.File] != nil {
					mounts[i].Digest = plainFiles[f.File][1]
				}
			}
		}
		if at := encryptedText(svc); at != "" {
			return fmt.Errorf("%w: %s: the encrypted value of %s is part of another one; give the container the variable itself, with env_file", errDecrypt, spec.ServiceAddress(svc.Name), at)
		}
	}
	for _, files := range []map[string]*spec.File{p.desired.Secrets, p.desired.Configs} {
		for _, f := range files {
			if plain := plainFiles[f.File]; plain != nil {
				f.File, f.Digest, f.Sealed = plain[0], plain[1], true
			}
		}
	}
	return nil
}

// sealEnvironment moves encrypted variables to where no record has their values.
func sealEnvironment(svc *spec.Service, values, metadata map[string]string) {
	for name, text := range svc.Environment {
		if file, ok := values[text]; ok {
			if svc.SecretEnvironment == nil {
				svc.SecretEnvironment = map[string]string{}
			}
			svc.SecretEnvironment[name] = file
			delete(svc.Environment, name)
		} else if metadata[name] != "" {
			delete(svc.Environment, name)
		}
	}
}

// encryptedText finds an attribute with an encrypted value in the middle, which nothing would decrypt.
func encryptedText(svc *spec.Service) string {
	for name, text := range svc.Environment {
		if strings.Contains(text, "ENC[AES256_GCM,") {
			return name
		}
	}
	for _, list := range []*[]string{svc.Command, svc.Entrypoint} {
		if list != nil && strings.Contains(strings.Join(*list, " "), "ENC[AES256_GCM,") {
			return "command"
		}
	}
	return ""
}

// hide notes decrypted values, so that no message shows them.
func (x *attempt) hide(values ...string) {
	x.secret = append(x.secret, values...)
	slices.SortFunc(x.secret, func(a, b string) int { return len(b) - len(a) }) // the longest first: one may be part of another
}

// keepEncrypted keeps a copy of an encrypted file, named by its content.
func (x *attempt) keepEncrypted(data []byte) (string, error) {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:]) + ".enc"
	file := filepath.Join(sealedFolder(x.dir), name)
	if _, err := os.Stat(file); err == nil {
		return name, nil
	}
	return name, atomicfile.Write(file, data, false)
}

// seal puts a decrypted content on the tmpfs, and notes on the disk how to do so again. It returns its name there.
func (x *attempt) seal(content []byte, how sealed) (string, error) {
	name, err := x.c.keyed(content)
	if err != nil {
		return "", err
	}
	if err := write(filepath.Join(sealedFolder(x.dir), name+".json"), how); err != nil {
		return "", err
	}
	return name, unsealed(filepath.Join(x.c.runDir(x.name), name), content)
}

func unsealed(file string, content []byte) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (c *Controller) runDir(name string) string { return filepath.Join(c.opts.RunDir, name) }

// keys are read every time: one that was added counts at once.
func (c *Controller) keys() (sops.Keys, error) { return sops.LoadKeys(c.declared().AgeKeys) }

// keysDigest tells other keys, and another place for what they decrypt, from those before: what could not be decrypted is tried again.
func (c *Controller) keysDigest() string {
	var all []string
	for _, file := range c.declared().AgeKeys {
		data, err := os.ReadFile(file)
		all = append(all, digest([]any{string(data), err == nil}))
	}
	if len(all) > 0 && !onTmpfs(c.opts.RunDir) {
		all = append(all, "no tmpfs")
	}
	return digest(all)
}

// keyed is a digest that gives nothing away, not even of a weak password, without this host's key.
func (c *Controller) keyed(content []byte) (string, error) {
	key, err := c.hostKey()
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(content)
	return hex.EncodeToString(mac.Sum(nil))[:32], nil
}

// hostKey is made at the first use.
func (c *Controller) hostKey() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	file := c.opts.Root + ".key"
	key, err := os.ReadFile(file)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, 32)
	rand.Read(key)
	return key, atomicfile.Write(file, key, true)
}

// Restore decrypts what is on no tmpfs any more, after a reboot. It comes before containers start. What can't be decrypted
// is told; the containers that need it say so themselves.
func (c *Controller) Restore() {
	files, err := filepath.Glob(filepath.Join(c.opts.Root, "*", "sealed", "*.json"))
	if err != nil || len(files) == 0 {
		return
	}
	c.mu.Lock()
	if file, err := c.read(); err == nil {
		c.file = file
	}
	c.mu.Unlock()
	keys, err := c.keys()
	if err != nil {
		c.opts.Logf("gitops: %v", err)
		return
	}
	plain := map[string]*sops.File{}
	for _, note := range files {
		if err := c.restore(note, keys, plain); err != nil {
			c.opts.Logf("gitops: %s: %v", note, err)
		}
	}
}

func (c *Controller) restore(note string, keys sops.Keys, plain map[string]*sops.File) error {
	folder := filepath.Dir(note)
	target := filepath.Join(c.runDir(filepath.Base(filepath.Dir(folder))), strings.TrimSuffix(filepath.Base(note), ".json"))
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	var how sealed
	if ok, err := read(note, &how); !ok {
		return err
	}
	file := plain[how.File]
	if file == nil {
		data, err := os.ReadFile(filepath.Join(folder, how.File))
		if err == nil {
			file, err = keys.Decrypt(how.Name, data)
		}
		if err != nil {
			return fmt.Errorf("%w %s: %w", errDecrypt, how.Name, err)
		}
		plain[how.File] = file
	}
	content := file.Content
	if how.Text != "" {
		content = []byte(file.Values[how.Text])
	}
	return unsealed(target, content)
}

// sweepSecrets removes decrypted files, and their encrypted forms, that no container and no kept revision reads.
func (x *attempt) sweepSecrets(used map[string]bool) error {
	dir := sealedFolder(x.dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	keep := map[string]bool{}
	for _, e := range entries {
		name, isNote := strings.CutSuffix(e.Name(), ".json")
		if !isNote {
			continue
		}
		plain := filepath.Join(x.c.runDir(x.name), name)
		if !used[plain] {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())), ignoreAbsent(os.Remove(plain)))
			continue
		}
		var how sealed
		if ok, _ := read(filepath.Join(dir, e.Name()), &how); ok {
			keep[how.File] = true
		}
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".enc") && !keep[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
