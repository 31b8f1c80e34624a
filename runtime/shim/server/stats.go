package server

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

// stats reads a container's counters from its cgroup and its network namespace.
func (s *Server) stats(id string) (shim.Stats, error) {
	_, r, err := s.runOf(id)
	if err != nil {
		return shim.Stats{}, err
	}
	cg, err := r.cgroup.GetStats()
	if err != nil {
		return shim.Stats{}, fmt.Errorf("stats of %s: %w", id, err)
	}
	kills, err := r.cgroup.OOMKillCount()
	if err != nil {
		return shim.Stats{}, fmt.Errorf("stats of %s: %w", id, err)
	}
	out := shim.Stats{
		Time: time.Now(), CPUs: runtime.NumCPU(), OOMKills: kills,
		CPU:       cg.CpuStats.CpuUsage.TotalUsage,
		CPUUser:   cg.CpuStats.CpuUsage.UsageInUsermode,
		CPUSystem: cg.CpuStats.CpuUsage.UsageInKernelmode,
		Throttled: cg.CpuStats.ThrottlingData.ThrottledTime,
		PIDs:      cg.PidsStats.Current, PIDsLimit: cg.PidsStats.Limit,
	}
	memoryStats(&out, cg.MemoryStats)
	for _, e := range cg.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			out.BlockRead += e.Value
		case "write":
			out.BlockWrite += e.Value
		}
	}
	out.NetRx, out.NetTx, err = netCounters(r.pid)
	return out, err
}

// memoryStats counts as docker does: page cache that the kernel may drop is not in use.
func memoryStats(out *shim.Stats, m cgroups.MemoryStats) {
	out.MemoryCache, out.MemoryPeak, out.MemoryLimit = m.Cache, m.Usage.MaxUsage, m.Usage.Limit
	inactive, ok := m.Stats["total_inactive_file"] // cgroup v1
	if !ok {
		inactive = m.Stats["inactive_file"]
	}
	out.Memory = m.Usage.Usage - min(inactive, m.Usage.Usage)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		out.MemoryLimit = min(out.MemoryLimit, uint64(info.Totalram)*uint64(info.Unit))
	}
}

// netCounters sums up the interfaces of a process's network namespace, but lo. A process that has just ended has none.
func netCounters(pid int) (rx, tx uint64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return 0, 0, nil //nolint:nilerr // it ended
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, counters, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(counters)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		in, _ := strconv.ParseUint(fields[0], 10, 64)
		out, _ := strconv.ParseUint(fields[8], 10, 64)
		rx, tx = rx+in, tx+out
	}
	return rx, tx, lines.Err()
}
