package image

import (
	"context"
	"fmt"
	"path/filepath"
)

// layerDirs lists the folders of a chain's snapshots, the topmost first, as overlay wants them. With snapshotters that copy
// their parents it is one folder.
func (s *Store) layerDirs(ctx context.Context, chain string) ([]string, error) {
	if dirs, ok := s.lowers.Load(chain); ok {
		return dirs.([]string), nil
	}
	var dirs []string
	for name := chain; name != ""; {
		info, err := s.snaps.Stat(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", short(name), err)
		}
		rel := info.Labels[dirLabel]
		if rel == "" {
			return nil, fmt.Errorf("snapshot %s has no folder recorded", short(name))
		}
		dirs = append(dirs, filepath.Join(s.snapDir, rel))
		if !s.overlay {
			break
		}
		name = info.Parent
	}
	s.lowers.Store(chain, dirs)
	return dirs, nil
}
