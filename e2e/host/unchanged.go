package host

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Unchanged fails the test for everything on the machine that what changes: what AssertClean looks at, and every file of the
// daemon with its size and its time. The daemon runs already.
func (h *Host) Unchanged(what func()) {
	h.T.Helper()
	before := h.everything()
	what()
	after := h.everything()
	for kind, now := range after {
		for _, line := range now {
			if !slices.Contains(before[kind], line) {
				h.T.Errorf("new or changed: %s: %s", kind, line)
			}
		}
		for _, line := range before[kind] {
			if !slices.Contains(now, line) {
				h.T.Errorf("gone or changed: %s: %s", kind, line)
			}
		}
	}
}

// everything is what observe finds, and the daemon's files. What the command caches is its own affair, and the daemon's log
// tells of requests.
func (h *Host) everything() state {
	h.T.Helper()
	all := h.observe()
	for _, root := range []string{h.inside(h.Root), h.inside(h.RunDir)} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			rel, _ := filepath.Rel(root, path)
			if rel == "cache" {
				return fs.SkipDir
			}
			info, err := d.Info()
			if err != nil || rel == "daemon.log" || rel == "." {
				return nil
			}
			line := fmt.Sprintf("%s %s %s", strings.TrimPrefix(path, h.inside("/")), info.Mode(), info.ModTime())
			if info.Mode().IsRegular() {
				line += fmt.Sprintf(" %d", info.Size())
			}
			all["file"] = append(all["file"], line)
			return nil
		})
	}
	return all
}
