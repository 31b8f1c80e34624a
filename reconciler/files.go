package reconciler

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/notice"
)

// files watches what is the daemon's own on disk, and the limits of containers: what others change there is put right as long
// as the daemon knows what it was. Data of volumes is never touched.
type files struct {
	r *Reconciler
	n *notice.Folders

	mu    sync.Mutex
	dirty map[string]bool // paths that something happened to
	timer *time.Timer
}

// owned are the folders below the root that are watched; images are content-addressed and checked by their store.
var owned = []string{"stacks", "networks", "volumes"}

// filesGather is how long changes are gathered: the daemon's own writes are several to a file.
const filesGather = 50 * time.Millisecond

// watchFiles begins to watch; it must be called before the first full look at the stacks.
func (r *Reconciler) watchFiles() error {
	n, err := notice.Open()
	if err != nil {
		return err
	}
	f := &files{r: r, n: n, dirty: map[string]bool{}}
	r.fileWatch = f
	for _, name := range owned {
		if err := os.MkdirAll(filepath.Join(r.root, name), 0o711); err != nil {
			return err
		}
	}
	f.addTree(r.root)
	r.spawn(func() { n.Follow(f.event, f.all) })
	return nil
}

// parts are the names of the folders from the root to a path.
func (f *files) parts(path string) []string {
	rel, err := filepath.Rel(f.r.root, path)
	if err != nil || rel == "." || strings.HasPrefix(rel, "..") {
		return nil
	}
	return strings.Split(rel, string(filepath.Separator))
}

// addTree watches what is the daemon's at a path and below.
func (f *files) addTree(path string) {
	parts := f.parts(path)
	mask := uint32(notice.Content)
	switch {
	case len(parts) == 0:
		for _, name := range owned {
			f.addTree(filepath.Join(path, name))
		}
		return
	case parts[0] == "networks" && len(parts) == 1, parts[0] == "stacks" && len(parts) == 4 && parts[2] == "containers", parts[0] == "volumes" && len(parts) == 2:
		f.add(path, mask)
		return
	case parts[0] == "volumes" && len(parts) == 1, parts[0] == "stacks" && (len(parts) <= 2 || len(parts) == 3 && (parts[2] == "containers" || parts[2] == "revisions")):
		f.add(path, mask)
	default:
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return // it has gone again
	}
	for _, e := range entries {
		if e.IsDir() {
			f.addTree(filepath.Join(path, e.Name()))
		}
	}
}

func (f *files) add(path string, mask uint32) {
	if err := f.n.Add(path, mask); err != nil {
		f.r.logf("%v; the full pass looks at it", err)
	}
}

// event notes what happened to a path. New folders are watched at once.
func (f *files) event(path string, folder bool) {
	if folder {
		f.addTree(path)
	}
	if strings.HasSuffix(path, ".tmp") || strings.HasSuffix(path, ".new") {
		return // our own, on its way
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty[path] = true
	if f.timer == nil {
		f.timer = time.AfterFunc(filesGather, func() { f.r.spawn(f.look) })
	}
}

// all looks at everything: events were lost.
func (f *files) all() {
	f.addTree(f.r.root)
	names, err := f.r.Stacks()
	if err != nil {
		f.r.logf("%v", err)
	}
	for _, name := range names {
		f.r.wakeFull(f.r.stack(name))
	}
}

// look finds out whether what happened to the noted paths was somebody else's doing.
func (f *files) look() {
	f.mu.Lock()
	paths := f.dirty
	f.dirty, f.timer = map[string]bool{}, nil
	f.mu.Unlock()
	limits := map[string]bool{}
	stacks := map[string]bool{}
	networks := false
	for path := range paths {
		if strings.HasPrefix(path, "/sys/") {
			limits[filepath.Base(filepath.Dir(path))] = true
			continue
		}
		parts := f.parts(path)
		switch {
		case len(parts) < 2:
		case parts[0] == "networks":
			networks = true
		case parts[0] == "volumes":
			for _, name := range f.r.stacksOf(parts[1]) {
				f.r.wake(f.r.stack(name))
			}
		case len(parts) >= 4 && parts[2] == "containers":
			f.container(parts[1], parts[3])
		default:
			stacks[parts[1]] = true
		}
	}
	for name := range stacks {
		f.r.spawn(func() { f.r.restate(f.r.stack(name)) }) // it waits for operations
	}
	if networks {
		f.r.restateNetworks()
	}
	for id := range limits {
		f.r.lookAtLimits(id)
	}
}

// container looks at a container whose folder something happened to.
func (f *files) container(stack, id string) {
	v, err := f.r.engine.Get(id)
	if err != nil {
		return // it was removed, by ourselves
	}
	again, err := f.r.engine.Restate(id)
	switch {
	case err != nil:
		f.r.logf("%s: %v", v.Name, err)
	case again:
		f.r.logf("stack %s: %s: its record was changed by somebody else; it is written anew", stack, v.Address())
	}
	if f.r.engine.Damage(v) != "" {
		f.r.wake(f.r.stack(stack))
	}
}

// stacksOf are the stacks whose containers mount a volume.
func (r *Reconciler) stacksOf(volume string) []string {
	found := map[string]bool{}
	var names []string
	for _, v := range r.engine.List("") {
		if !found[v.Stack] && contains(v.Volumes, volume) {
			found[v.Stack] = true
			names = append(names, v.Stack)
		}
	}
	return names
}

func contains(list []string, one string) bool {
	for _, s := range list {
		if s == one {
			return true
		}
	}
	return false
}

// watchLimits has the limits of a running container watched.
func (r *Reconciler) watchLimits(v runtime.View) {
	if r.fileWatch == nil {
		return
	}
	for _, dir := range r.engine.CgroupDirs(v) {
		r.fileWatch.add(dir, notice.Writes)
	}
}
