package server

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stack-run/stack/runtime/shim"
)

// top lists the processes of a container.
func (s *Server) top(id string) ([]shim.Process, error) {
	_, r, err := s.runOf(id)
	if err != nil {
		return nil, err
	}
	pids, err := r.cgroup.GetAllPids()
	if err != nil {
		return nil, fmt.Errorf("processes of %s: %w", id, err)
	}
	slices.Sort(pids)
	list := make([]shim.Process, 0, len(pids))
	for _, pid := range slices.Compact(pids) {
		if p, ok := readProcess(pid); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

// ticks are what /proc counts time in: USER_HZ, which is 100 on every architecture Go knows.
const ticks = 100

var bootTime = sync.OnceValue(func() time.Time {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(data)) {
		if s, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, _ := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
})

// readProcess reads one line of ps; false when the process has ended.
func readProcess(pid int) (shim.Process, bool) {
	dir := fmt.Sprintf("/proc/%d", pid)
	info, err := os.Stat(dir)
	if err != nil {
		return shim.Process{}, false
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return shim.Process{}, false
	}
	// The name stands in parentheses and may hold anything; fields are counted from behind it.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if open < 0 || end < open || len(fields) < 20 {
		return shim.Process{}, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return n
	}
	p := shim.Process{
		PID: pid, PPID: int(number(1)), TTY: ttyName(number(4)), Command: string(stat[open : end+1]),
		CPU:     time.Duration(number(11)+number(12)) * time.Second / ticks,
		Started: bootTime().Add(time.Duration(number(19)) * time.Second / ticks),
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		p.UID = int(sys.Uid)
	}
	if line, err := os.ReadFile(dir + "/cmdline"); err == nil && len(line) > 0 {
		p.Command = string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	}
	return p, true
}

// ttyName names a terminal by its device number; those of containers are Unix 98 ones, majors 136 to 143.
func ttyName(device int64) string {
	major := device >> 8 & 0xfff
	minor := device&0xff | device>>12&0xfff00
	if major < 136 || major > 143 {
		return "?"
	}
	return fmt.Sprintf("pts/%d", (major-136)<<20|minor)
}
