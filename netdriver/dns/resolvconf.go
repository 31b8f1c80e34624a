package dns

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// upstream is who is asked what we don't know, and how.
type upstream struct {
	servers  []netip.AddrPort
	timeout  time.Duration // for one try
	attempts int
	rotate   bool
	tcp      bool
}

// Defaults as in resolv.conf(5), but for the timeout: the container's own resolver gives up after 5 s, by when the
// second server must have had its turn.
const (
	defaultTimeout  = 2 * time.Second
	defaultAttempts = 2
	maxTimeout      = 30 * time.Second
	maxAttempts     = 5
)

// parseResolvConf reads what resolv.conf(5) says about servers. Like the C library, it skips what it does not
// understand. Without a server, it is the one on this machine.
func parseResolvConf(text string) upstream {
	u := upstream{timeout: defaultTimeout, attempts: defaultAttempts}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				u.servers = append(u.servers, netip.AddrPortFrom(a, 53))
			}
		case "options":
			for _, o := range fields[1:] {
				u.option(o)
			}
		}
	}
	if len(u.servers) == 0 {
		u.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return u
}

func (u *upstream) option(o string) {
	key, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case key == "timeout" && err == nil && n > 0:
		u.timeout = min(time.Duration(n)*time.Second, maxTimeout)
	case key == "attempts" && err == nil && n > 0:
		u.attempts = min(n, maxAttempts)
	case key == "rotate":
		u.rotate = true
	case key == "use-vc":
		u.tcp = true
	}
}

// explicit is an upstream of the servers that a stack file names.
func explicit(servers []string) upstream {
	u := upstream{timeout: defaultTimeout, attempts: defaultAttempts}
	for _, s := range servers {
		if a, err := netip.ParseAddr(s); err == nil {
			u.servers = append(u.servers, netip.AddrPortFrom(a, 53))
		} else if ap, err := netip.ParseAddrPort(s); err == nil {
			u.servers = append(u.servers, ap)
		}
	}
	return u
}

// hostFile is the host's resolv.conf, read again when it changes.
type hostFile struct {
	path     string
	mu       sync.Mutex
	modified time.Time
	size     int64
	parsed   upstream
}

func (f *hostFile) get() upstream {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return parseResolvConf("")
	}
	if f.parsed.servers == nil || !f.modified.Equal(info.ModTime()) || f.size != info.Size() {
		b, err := os.ReadFile(f.path)
		if err != nil {
			return parseResolvConf("")
		}
		f.parsed, f.modified, f.size = parseResolvConf(string(b)), info.ModTime(), info.Size()
	}
	return f.parsed
}
