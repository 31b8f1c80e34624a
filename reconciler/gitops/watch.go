package gitops

import (
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long an editor may take to write a file.
const settle = 100 * time.Millisecond

// followFile applies the declared file whenever it changes. Its folder is watched: editors replace files by rename.
func (c *Controller) followFile() {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(c.opts.File))
	}
	if err != nil {
		c.opts.Logf("gitops: changes of %s are seen at the next start only: %v", c.opts.File, err)
		return
	}
	c.tasks.Go(func() {
		defer watcher.Close()
		quiet := time.NewTimer(time.Hour)
		defer quiet.Stop()
		for {
			select {
			case <-c.ctx.Done():
				return
			case e := <-watcher.Events:
				if filepath.Clean(e.Name) == filepath.Clean(c.opts.File) {
					quiet.Reset(settle)
				}
			case err := <-watcher.Errors: // an overflow: look
				if err != nil {
					quiet.Reset(settle)
				}
			case <-quiet.C:
				c.change.Lock()
				c.reread()
				c.sweepReleased()
				c.change.Unlock()
				quiet.Reset(time.Hour) // what no event told
			}
		}
	})
}
