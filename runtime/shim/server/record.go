package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// record tells the next shim what a run of a container owns. It is written before any of it is made.
type record struct {
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"`
	Cgroup  string    `json:"cgroup"`
	Runtime string    `json:"runtime,omitempty"`
	Args    []string  `json:"args,omitempty"`
	Time    time.Time `json:"time"`
}

func (s *Server) recordPath(id string) string { return filepath.Join(s.recordDir(), id+".json") }

func (s *Server) remember(r record) error {
	if err := writeJSON(s.recordPath(r.ID), r); err != nil {
		return fmt.Errorf("record of %s: %w", r.ID, err)
	}
	return nil
}

func (s *Server) forget(id string) error {
	if err := os.Remove(s.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record of %s: %w", id, err)
	}
	return nil
}

// writeJSON replaces a file as one step. It is not synced: what it tells does not outlive the kernel.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// logf writes a line to the shim's own log.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().UTC().Format("2006-01-02T15:04:05.000Z ")+format+"\n", args...)
}
