package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/profiles/apparmor"
	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// DefaultAppArmor is the name of the profile that containers run under where the host has AppArmor.
const DefaultAppArmor = "stack-default"

// Host is what this host and this process can give to containers. It is looked up once, by DetectHost.
type Host struct {
	Hostname     string
	CgroupV2     bool
	SwapLimit    bool     // swap is accounted to cgroups
	Seccomp      bool     // the kernel filters system calls
	AppArmor     string   // the default profile; empty where the host has no AppArmor
	Capabilities []string // the bounding set of this process
	// Limits are this process's hard resource limits by name (RLIMIT_NOFILE). With CAP_SYS_RESOURCE they don't bind.
	Limits map[string]uint64
	// OOMScoreAdj of this process, below which it can't go without CAP_SYS_RESOURCE.
	OOMScoreAdj int
	// Init is the path of a static program that serves as process 1 for `init: true`. DetectHost looks for the usual ones;
	// the caller may set its own. It is started as /sbin/docker-init -- command...
	Init string
}

// DetectHost looks at the host and at this process.
func DetectHost() (Host, error) {
	var h Host
	var err error
	if h.Hostname, err = os.Hostname(); err != nil {
		return h, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return h, fmt.Errorf("look at /sys/fs/cgroup: %w", err)
	}
	h.CgroupV2 = fs.Type == unix.CGROUP2_SUPER_MAGIC
	h.SwapLimit = h.swapLimit()
	h.Seccomp = hasSeccomp()
	if enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); strings.HasPrefix(string(enabled), "Y") {
		h.AppArmor = DefaultAppArmor
	}
	if h.Capabilities, err = boundingSet(); err != nil {
		return h, err
	}
	if h.Limits, err = hardLimits(); err != nil {
		return h, err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return h, err
	}
	if h.OOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(score))); err != nil {
		return h, err
	}
	for _, p := range []string{"/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini-static", "/usr/bin/catatonit"} {
		if _, err := os.Stat(p); err == nil {
			h.Init = p
			break
		}
	}
	return h, nil
}

func (h *Host) has(c string) bool {
	for _, have := range h.Capabilities {
		if have == c {
			return true
		}
	}
	return false
}

// swapLimit tells whether the swap of a cgroup can be limited. On v2 only a cgroup below the root has the file.
func (h *Host) swapLimit() bool {
	pattern := "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
	if h.CgroupV2 {
		pattern = "/sys/fs/cgroup/*/memory.swap.max"
	}
	found, err := filepath.Glob(pattern)
	return err == nil && len(found) > 0
}

// hasSeccomp asks the kernel for its filter mode: with a bad address, EFAULT says that the mode exists.
func hasSeccomp() bool {
	return errors.Is(unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0), unix.EFAULT)
}

func boundingSet() ([]string, error) {
	var names []string
	for _, c := range capability.ListKnown() {
		if ok, err := capability.GetBound(c); err == nil && ok {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	if names == nil {
		return nil, errors.New("this process has no capabilities; Stack needs to be root")
	}
	return names, nil
}

func hardLimits() (map[string]uint64, error) {
	limits := make(map[string]uint64, len(rlimits))
	for _, r := range rlimits {
		var l unix.Rlimit
		if err := unix.Getrlimit(r.number, &l); err != nil {
			return nil, fmt.Errorf("look up resource limit %s: %w", r.name, err)
		}
		limits[r.name] = l.Max
	}
	return limits, nil
}

// LoadAppArmor loads the default profile into the kernel where Host.AppArmor names it. It needs the apparmor_parser program.
func LoadAppArmor() error {
	if loaded, err := apparmor.IsLoaded(DefaultAppArmor); err == nil && loaded {
		return nil
	}
	if err := apparmor.InstallDefault(DefaultAppArmor); err != nil {
		return fmt.Errorf("load AppArmor profile %s: %w", DefaultAppArmor, err)
	}
	return nil
}
