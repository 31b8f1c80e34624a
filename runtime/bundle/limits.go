package bundle

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

type rlimit struct {
	name   string
	number int
}

// rlimits are the resource limits a stack file may name, as RLIMIT_<upper case>.
var rlimits = []rlimit{
	{"RLIMIT_CORE", unix.RLIMIT_CORE}, {"RLIMIT_CPU", unix.RLIMIT_CPU}, {"RLIMIT_DATA", unix.RLIMIT_DATA},
	{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE}, {"RLIMIT_LOCKS", unix.RLIMIT_LOCKS}, {"RLIMIT_MEMLOCK", unix.RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", unix.RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", unix.RLIMIT_NICE}, {"RLIMIT_NOFILE", unix.RLIMIT_NOFILE},
	{"RLIMIT_NPROC", unix.RLIMIT_NPROC}, {"RLIMIT_RSS", unix.RLIMIT_RSS}, {"RLIMIT_RTPRIO", unix.RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", unix.RLIMIT_RTTIME}, {"RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING}, {"RLIMIT_STACK", unix.RLIMIT_STACK},
}

// Open files of a container whose file doesn't say: what systemd gives to a service, which is what Docker's containers get.
const (
	defaultNofileSoft = 1024
	defaultNofileHard = 524288
)

// limits sets the resource limits and the OOM score.
func (b *builder) limits() error {
	b.oomScore()
	for _, name := range slices.Sorted(maps.Keys(b.Service.Ulimits)) {
		l, attribute := b.Service.Ulimits[name], "ulimits."+name
		id := "RLIMIT_" + strings.ToUpper(name)
		if name != strings.ToLower(name) || !slices.ContainsFunc(rlimits, func(r rlimit) bool { return r.name == id }) {
			return invalid(attribute, "there is no such limit")
		}
		if l.Soft < -1 || l.Hard < -1 {
			return invalid(attribute, "a limit is -1 (unlimited) or at least 0")
		}
		soft, hard := limit(l.Soft), limit(l.Hard)
		if soft > hard {
			return invalid(attribute, "the soft limit %d is above the hard limit %d", l.Soft, l.Hard)
		}
		most := b.most(id)
		if hard > most {
			b.warn("%s: the hard limit is %d instead of %d, because Stack itself may not go higher here", attribute, most, l.Hard)
		}
		b.addLimit(id, min(soft, most), min(hard, most))
	}
	if _, ok := b.Service.Ulimits["nofile"]; !ok {
		hard := min(defaultNofileHard, b.most("RLIMIT_NOFILE"))
		b.addLimit("RLIMIT_NOFILE", min(defaultNofileSoft, hard), hard)
	}
	return nil
}

// oomScore leaves the score alone where the kernel would refuse it.
func (b *builder) oomScore() {
	score := b.Service.OOMScoreAdj
	if score < b.Host.OOMScoreAdj && !b.Host.has("CAP_SYS_RESOURCE") {
		if score != 0 {
			b.warn("oom_score_adj: stays %d, because Stack itself may not lower it here", b.Host.OOMScoreAdj)
		}
		return
	}
	b.spec.Process.OOMScoreAdj = &score
}

func (b *builder) addLimit(name string, soft, hard uint64) {
	b.spec.Process.Rlimits = append(b.spec.Process.Rlimits, specs.POSIXRlimit{Type: name, Soft: soft, Hard: hard})
}

// most is the highest hard limit this process can give.
func (b *builder) most(name string) uint64 {
	if own, ok := b.Host.Limits[name]; ok && !b.Host.has("CAP_SYS_RESOURCE") {
		return own
	}
	return math.MaxUint64
}

func limit(v int64) uint64 {
	if v == -1 {
		return math.MaxUint64 // RLIM_INFINITY
	}
	return uint64(v)
}
