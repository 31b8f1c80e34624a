package voldriver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Condition is what others did to a volume underneath its users.
type Condition struct {
	Drift  []string // can be brought back: its record, its mount
	Damage []string // is gone: nobody but who keeps its data elsewhere can bring it back
}

// Observe looks at a volume that containers mount, used says whether by a process that lives. It touches nothing.
func (s *Store) Observe(name string, used bool) (c Condition, err error) {
	data := filepath.Join(s.folder(name), dataName)
	if _, err := os.Lstat(data); errors.Is(err, fs.ErrNotExist) {
		c.Damage = append(c.Damage, "the folder with its data was removed")
		return c, nil
	}
	v, err := s.Get(name)
	if errors.Is(err, ErrNotFound) {
		c.Drift = append(c.Drift, "its record was removed")
		return c, nil
	}
	if err != nil {
		c.Damage = append(c.Damage, fmt.Sprintf("its record can't be read: %v", err))
		return c, nil
	}
	backend, err := s.backend(v)
	if err != nil {
		return c, err
	}
	if w, ok := backend.(interface {
		Attached(Volume) (bool, error)
	}); ok && backend.Foreign(v) && used {
		attached, err := w.Attached(v)
		if err != nil {
			return c, fmt.Errorf("volume %s: %w", name, err)
		}
		if !attached {
			c.Drift = append(c.Drift, "it is not mounted")
		}
	}
	return c, nil
}
