package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// Damage tells why a container can't go on as it is: its folder, or what it wrote, was removed underneath it. Empty: it can.
func (e *Engine) Damage(v View) string {
	if v.Phase != Made {
		return ""
	}
	// Which of the snapshotters has a folder here is the image store's business: one that was seen is missed.
	_, err := os.Lstat(filepath.Join(v.Dir, "upper"))
	if err != nil { // else the folder around it is there, too
		if _, err := os.Lstat(v.Dir); errors.Is(err, os.ErrNotExist) {
			return "its folder was removed"
		}
	}
	c, notKnown := e.get(v.ID)
	if notKnown != nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.layered = true
	}
	if c.layered && errors.Is(err, os.ErrNotExist) {
		return "what it wrote was removed"
	}
	return ""
}

// Restate compares a container's record on disk with what is known, and writes it anew when somebody else changed or removed
// it. It tells whether it did.
func (e *Engine) Restate(id string) (bool, error) {
	c, err := e.get(id)
	if err != nil {
		return false, nil //nolint:nilerr // it was removed, by ourselves
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false, nil
	}
	if _, err := os.Lstat(c.dir); err != nil {
		return false, nil //nolint:nilerr // the whole folder is gone: Damage tells
	}
	want, err := json.Marshal(&c.record)
	if err != nil {
		return false, err
	}
	data, err := os.ReadFile(filepath.Join(c.dir, recordName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if lines := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n")); bytes.Equal(lines[len(lines)-1], want) {
		return false, nil
	}
	c.lines, err = writeRecordLine(c.dir, c.record.Name, append(want, '\n'), 0)
	return err == nil, err
}
