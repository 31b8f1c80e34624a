package netdriver

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// holder is a socket on a local port.
type holder struct {
	addr  netip.Addr
	state uint8 // TCP state
	inode uint32
}

// Kernel constants of sock_diag(7) that the unix package lacks.
const (
	sockDiagByFamily = 20
	diagRequestLen   = 56
	diagAnswerLen    = 72
	tcpTimeWait      = 6
)

// diagRequest is struct inet_diag_req_v2: all sockets of a family and protocol, in every state (bound but not
// connected ones included, on kernels that tell: 6.8 and later).
type diagRequest struct{ family, protocol uint8 }

func (r diagRequest) Len() int { return diagRequestLen }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestLen)
	b[0], b[1] = r.family, r.protocol
	binary.NativeEndian.PutUint32(b[4:], 0xffffffff)
	return b
}

// holders lists the sockets on a local port. It is for messages: what can't be found out is left out.
func holders(protocol string, port uint16, families ...uint8) (out []holder) {
	for _, family := range families {
		req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
		req.AddData(diagRequest{family, uint8(socketKinds[protocol].proto)})
		answers, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			continue
		}
		for _, a := range answers {
			if len(a) < diagAnswerLen || binary.BigEndian.Uint16(a[4:]) != port {
				continue
			}
			h := holder{state: a[1], inode: binary.NativeEndian.Uint32(a[68:])}
			if a[0] == unix.AF_INET {
				h.addr = netip.AddrFrom4([4]byte(a[8:12]))
			} else {
				h.addr = netip.AddrFrom16([16]byte(a[8:24])).Unmap()
			}
			out = append(out, h)
		}
	}
	return out
}

// onlyClosing tells whether nothing but closed connections in TIME_WAIT keep a TCP port from a socket of a family. One of IPv6
// alone has it beside one of IPv4, which is mostly our own, bound a moment before.
func onlyClosing(port uint16, six bool) bool {
	families := []uint8{unix.AF_INET6}
	if !six {
		families = append(families, unix.AF_INET) // one of IPv6 may have both
	}
	found := holders("tcp", port, families...)
	for _, h := range found {
		if h.state != tcpTimeWait {
			return false
		}
	}
	return len(found) > 0
}

// processOf finds a process that has a socket open; 0 when there is none to see.
func processOf(inode uint32) (pid int, program string) {
	if inode == 0 {
		return 0, ""
	}
	want := fmt.Sprintf("socket:[%d]", inode)
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		files, err := os.ReadDir(filepath.Join(p, "fd"))
		if err != nil {
			continue
		}
		for _, f := range files {
			if link, err := os.Readlink(filepath.Join(p, "fd", f.Name())); err == nil && link == want {
				name, _ := os.ReadFile(filepath.Join(p, "comm"))
				pid, _ := strconv.Atoi(filepath.Base(p))
				return pid, strings.TrimSpace(string(name))
			}
		}
	}
	return 0, ""
}
