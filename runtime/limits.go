package runtime

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stack-run/stack/runtime/bundle"
)

// limit is one file of a container's cgroup with what is to be in it.
type limit struct {
	controller, file, want string
}

const cgroupMount = "/sys/fs/cgroup"

// CgroupDirs are the folders with the limits of a running container, for who watches them.
func (e *Engine) CgroupDirs(v View) []string {
	path := filepath.Join(e.cgroupRoot(), v.Stack, v.ID)
	if e.host.CgroupV2 {
		return []string{filepath.Join(cgroupMount, path)}
	}
	var dirs []string
	for _, controller := range []string{"memory", "cpu", "pids", "cpuset"} {
		dirs = append(dirs, filepath.Join(cgroupMount, controller, path))
	}
	return dirs
}

// LimitDrift tells which limits of a running container are not those of its service: somebody else changed them.
func (e *Engine) LimitDrift(v View) ([]string, error) {
	limits, err := e.limits(v)
	if err != nil {
		return nil, fmt.Errorf("limits of container %s: %w", v.Name, err)
	}
	var drift []string
	for _, l := range limits {
		have, err := os.ReadFile(e.limitPath(v, l))
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without it, or the container has just ended
		}
		if err != nil {
			return nil, fmt.Errorf("limits of container %s: %w", v.Name, err)
		}
		if got := strings.TrimSpace(string(have)); got != l.want {
			drift = append(drift, fmt.Sprintf("%s is %s, not %s", l.file, got, l.want))
		}
	}
	return drift, nil
}

func (e *Engine) limitPath(v View, l limit) string {
	path := filepath.Join(e.cgroupRoot(), v.Stack, v.ID, l.file)
	if e.host.CgroupV2 {
		return filepath.Join(cgroupMount, path)
	}
	return filepath.Join(cgroupMount, l.controller, path)
}

// limits are those that a wrong hand harms most: memory, processor time, number of processes, processors.
func (e *Engine) limits(v View) ([]limit, error) {
	r, _, err := bundle.UpdateResources(&v.Spec, e.host)
	if err != nil {
		return nil, err
	}
	page := int64(os.Getpagesize())
	number := func(n int64, none string) string {
		if n < 0 {
			return none
		}
		return strconv.FormatInt(n, 10)
	}
	var all []limit
	add := func(controller, file, want string) { all = append(all, limit{controller, file, want}) }
	memory := *r.Memory.Limit
	if memory > 0 {
		memory -= memory % page
	}
	if e.host.CgroupV2 {
		add("", "memory.max", number(memory, "max"))
		add("", "pids.max", number(*r.Pids.Limit, "max"))
		add("", "cpu.max", number(*r.CPU.Quota, "max")+" "+strconv.FormatUint(*r.CPU.Period, 10))
	} else {
		add("memory", "memory.limit_in_bytes", number(memory, strconv.FormatInt(math.MaxInt64-math.MaxInt64%page, 10)))
		add("pids", "pids.max", number(*r.Pids.Limit, "max"))
		add("cpu", "cpu.cfs_quota_us", number(*r.CPU.Quota, "-1"))
		add("cpu", "cpu.cfs_period_us", strconv.FormatUint(*r.CPU.Period, 10))
		add("cpu", "cpu.shares", strconv.FormatUint(*r.CPU.Shares, 10))
	}
	return all, nil
}
