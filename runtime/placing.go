package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/place"
)

// placing is what a container keeps for Place: one at a time, and who its files belong to in the run that started then.
type placing struct {
	turn  chan struct{} // holds a token while somebody is at work
	owner place.Owner
	of    time.Time
}

// Place makes files of a running container equal to files of the host, as the process with the given root folder sees it.
func (e *Engine) Place(ctx context.Context, id, from string, sets []place.Set) (place.Report, error) {
	c, err := e.get(id)
	if err != nil {
		return place.Report{}, err
	}
	select {
	case c.placing.turn <- struct{}{}:
	case <-ctx.Done():
		return place.Report{}, ctx.Err()
	}
	defer func() { <-c.placing.turn }()
	root, v, err := c.openRoot()
	if err != nil {
		return place.Report{}, err
	}
	defer unix.Close(root)
	if !c.placing.of.Equal(v.State.Started) || v.State.Started.IsZero() {
		if c.placing.owner, err = e.fileOwner(&v); err != nil {
			return place.Report{}, fmt.Errorf("container %s: %w", v.Name, err)
		}
		c.placing.of = v.State.Started
	}
	source, err := unix.Open(from, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place.Report{}, fmt.Errorf("the root folder of who asks: %w", err)
	}
	defer unix.Close(source)
	report, err := place.Apply(ctx, root, source, c.placing.owner, v.ID[:8], sets)
	if err != nil {
		err = fmt.Errorf("container %s: %w", v.Name, err)
	}
	return report, err
}

// openRoot opens the container's root as its processes see it. The process may end at any moment and its number become
// another's: the open folder of the process stays that process's, and its cgroup tells that it is the container's.
func (c *Container) openRoot() (int, View, error) {
	v := c.View()
	gone := fmt.Errorf("container %s: %w", v.Name, ErrNotRunning)
	if !v.Running() || v.State.PID <= 0 {
		return -1, v, gone
	}
	process, err := unix.Open(procPath(v.State.PID, ""), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, v, gone
	}
	defer unix.Close(process)
	fd, err := unix.Openat(process, "cgroup", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, v, gone
	}
	f := os.NewFile(uintptr(fd), "cgroup")
	defer f.Close()
	groups, err := io.ReadAll(f)
	if err != nil || !bytes.Contains(groups, []byte(v.ID)) {
		return -1, v, gone
	}
	root, err := unix.Openat(process, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return -1, v, gone
	}
	if err != nil {
		return -1, v, fmt.Errorf("container %s: open its root: %w", v.Name, err)
	}
	return root, v, nil
}

// fileOwner is the user of a container's first process, as the host has it.
func (e *Engine) fileOwner(v *View) (place.Owner, error) {
	data, err := os.ReadFile(filepath.Join(v.Dir, bundle.ConfigName))
	if err != nil {
		return place.Owner{}, fmt.Errorf("the user of its files: %w", err)
	}
	var config struct{ Process struct{ User specs.User } }
	if err := json.Unmarshal(data, &config); err != nil {
		return place.Owner{}, fmt.Errorf("the user of its files: %w", err)
	}
	uids, gids := e.idMaps(&v.Record)
	return place.Owner{UID: onHost(config.Process.User.UID, uids), GID: onHost(config.Process.User.GID, gids)}, nil
}

func onHost(id uint32, maps []specs.LinuxIDMapping) int {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + id - m.ContainerID)
		}
	}
	return int(id)
}
