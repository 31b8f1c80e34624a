package gitops

import (
	"path/filepath"
	"syscall"
)

// tmpfsMagic is the type of tmpfs in statfs(2).
const tmpfsMagic = 0x01021994

// onTmpfs tells whether what is written to a folder, or to the nearest one above that exists, stays in memory.
func onTmpfs(dir string) bool {
	var st syscall.Statfs_t
	for dir != "/" && syscall.Statfs(dir, &st) != nil {
		dir = filepath.Dir(dir)
	}
	return int64(st.Type) == tmpfsMagic
}
