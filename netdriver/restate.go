package netdriver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
)

// Restate compares the records on disk with what is known, and writes those anew that somebody else changed or removed: it
// returns their names.
func (m *Manager) Restate() ([]string, error) {
	m.kernel.Lock() // no network comes or goes meanwhile
	defer m.kernel.Unlock()
	var names []string
	for _, n := range m.List() {
		if builtin[n.Name] {
			continue
		}
		want, err := json.MarshalIndent(n, "", "\t")
		if err != nil {
			return names, err
		}
		have, err := os.ReadFile(recordPath(m.opts.Root, n.Name))
		if err == nil && bytes.Equal(bytes.TrimSpace(have), want) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return names, err
		}
		if err := saveRecord(m.opts.Root, n, true); err != nil {
			return names, err
		}
		names = append(names, n.Name)
	}
	return names, nil
}
