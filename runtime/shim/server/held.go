package server

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/loopback6"
	"github.com/stack-run/stack/runtime/shim"
)

// held is a file that the shim keeps open for a container, and by it a host port; served is what serves it, if anything.
type held struct {
	file   *os.File
	served io.Closer
}

func (h held) close() {
	if h.served != nil {
		_ = h.served.Close()
	}
	_ = h.file.Close()
}

// hold makes files held ones, and serves those that address translation can't.
func (c *container) hold(files []*os.File, forwards []loopback6.Forward) []held {
	all := make([]held, len(files))
	for i, f := range files {
		all[i].file = f
	}
	for _, f := range forwards {
		if f.File < 0 || f.File >= len(files) {
			continue
		}
		served, err := loopback6.Serve(files[f.File], f.Target)
		if err != nil {
			if !errors.Is(err, loopback6.ErrNotNeeded) {
				logf("%s: serve IPv6 clients of %s: %v", c.id, f.Target, err)
			}
			continue
		}
		all[f.File].served = served
	}
	return all
}

// release closes held files.
func release(all []held) {
	for _, h := range all {
		h.close()
	}
}

// address tells what a held socket keeps, as shim.NetworkRequest names it.
func (h held) address() string {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return ""
	}
	text := ""
	_ = raw.Control(func(fd uintptr) {
		protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil {
			return
		}
		bound, err := unix.Getsockname(int(fd))
		if err != nil {
			return
		}
		name := map[int]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[protocol]
		switch a := bound.(type) {
		case *unix.SockaddrInet4:
			text = name + " " + netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
		case *unix.SockaddrInet6:
			text = name + " " + netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
		}
	})
	return text
}

// network changes what is held and answered for a running container.
func (q *request) network(v shim.NetworkRequest) error {
	s := q.server
	c, r, err := s.runOf(v.ID)
	if err != nil {
		return err
	}
	files, err := q.take(v.Held)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	var gone []held
	c.held = slices.DeleteFunc(c.held, func(h held) bool {
		if slices.Contains(v.Keep, h.address()) {
			return false
		}
		gone = append(gone, h)
		return true
	})
	c.held = append(c.held, c.hold(files, v.Forwards)...)
	netns := fdPath(c.net)
	c.mu.Unlock()
	release(gone)
	if v.DNS != nil && r.named {
		return s.names.Serve(c.id, netns, *v.DNS)
	}
	return nil
}
