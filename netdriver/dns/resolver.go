package dns

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// Address is where programs in containers find the name service. Port is where it really listens on that address: the
// daemon redirects one to the other in each network namespace (firewall.Redirect), so that a container's own program may
// have port 53 of every address. It is above the range that kernels give out to clients.
var Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 11}), 53)

// Port the name service listens on.
const Port = 61053

// inFlight is how many questions may wait for upstream servers at a time; further ones are dropped, and asked again by
// the client.
const inFlight = 1024

// Resolver is the name service of all containers of a shim. Each container costs two sockets and two goroutines that
// wait without a buffer.
type Resolver struct {
	zones zones
	host  hostFile
	turn  atomic.Uint32 // rotates answers
	first atomic.Uint32 // rotates upstream servers
	slots chan struct{}

	mu      sync.Mutex
	servers map[string]*server
}

// New makes a resolver that answers from the records below dir and the host's /etc/resolv.conf.
func New(dir string) *Resolver {
	return &Resolver{
		zones:   zones{dir: dir, all: map[string]*zone{}},
		host:    hostFile{path: "/etc/resolv.conf"},
		slots:   make(chan struct{}, inFlight),
		servers: map[string]*server{},
	}
}

// answer gives the reply to a request, or a way to get it that takes time, or neither for what deserves no reply.
func (r *Resolver) answer(raw []byte, cfg *Config, inside string, tcp bool) (reply []byte, later func() []byte) {
	q, code, ok := parse(raw)
	if !ok {
		return nil, nil
	}
	if code != 0 {
		return q.bare(code), nil
	}
	if q.question.Class == dnsmessage.ClassINET {
		if answers, known := r.own(q, cfg); known {
			return q.reply(dnsmessage.RCodeSuccess, answers, tcp), nil
		}
	}
	if cfg.Closed {
		return q.reply(dnsmessage.RCodeNameError, nil, tcp), nil
	}
	u := r.host.get
	from := ""
	if len(cfg.Servers) > 0 {
		// Servers that the stack file names are meant as the container sees them.
		u, from = func() upstream { return explicit(cfg.Servers) }, inside
	}
	q.raw = append([]byte(nil), raw...) // the buffer is used again meanwhile
	return nil, func() []byte { return r.forward(q, u(), from, tcp) }
}

// own answers from the records. known with no answers says that the name exists, but has nothing of the type asked for.
func (r *Resolver) own(q query, cfg *Config) (out []resource, known bool) {
	switch q.question.Type {
	case dnsmessage.TypePTR:
		a, ok := reverseAddr(q.name())
		if !ok {
			return nil, false
		}
		name, ok := r.zones.reverse(cfg, a)
		if !ok {
			return nil, false
		}
		return []resource{{ptr: name}}, true
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		addrs, known := r.zones.lookup(cfg, q.name(), q.question.Type == dnsmessage.TypeAAAA)
		turn := r.turn.Add(1)
		for i := range addrs {
			out = append(out, resource{addr: addrs[(i+int(turn%uint32(len(addrs))))%len(addrs)]})
		}
		return out, known
	default:
		_, known := r.zones.lookup(cfg, q.name(), false)
		return nil, known
	}
}
