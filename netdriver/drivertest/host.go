// Package drivertest tests network drivers: a conformance suite that each driver runs (Run), and the ground it stands
// on: a test process in a network namespace of its own, which plays the host, and further namespaces for containers
// and other hosts. All of it vanishes with the process.
package drivertest

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver/netns"
)

const inside = "STACK_TEST_NETNS"

// Main runs a package's tests in a network namespace made for them. Call it from TestMain. Needs root.
func Main(m *testing.M) {
	if os.Getenv(inside) == "" {
		// The thread that unshares becomes the whole process at exec: same process id, same files.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fmt.Fprintf(os.Stderr, "these tests make network namespaces, which needs root: %v\n", err)
			os.Exit(1)
		}
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), inside+"=1"))
		fmt.Fprintf(os.Stderr, "start the tests in their network namespace: %v\n", err)
		os.Exit(1)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bring up the loopback link: %v\n", err)
		os.Exit(1)
	}
	// The net package finds out once, at its first use, what the kernel can do: here, where the loopback link is up.
	if l, err := net.Listen("tcp", ":0"); err == nil {
		l.Close()
	}
	os.Exit(m.Run())
}

// Namespace is a network namespace held by the test process; it goes when the test ends.
type Namespace struct {
	file *os.File
}

// NewNamespace makes one.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("make a network namespace: %v", r.err)
	}
	t.Cleanup(func() { r.f.Close() })
	return &Namespace{file: r.f}
}

// End ends it early, when nobody has a socket in it: as a container's ends.
func (n *Namespace) End() { n.file.Close() }

// Path by which others in the process open it.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Do runs fn inside.
func (n *Namespace) Do(t testing.TB, fn func() error) {
	t.Helper()
	if err := netns.DoFile(n.file, fn); err != nil {
		t.Fatalf("in namespace: %v", err)
	}
}

// Uplink makes another host on a link of this one, called name here and eth0 there. Addresses come in pairs: here,
// there. The other host has default routes to this one.
func Uplink(t testing.TB, name string, addrs ...string) *Namespace {
	t.Helper()
	n := NewNamespace(t)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, Flags: net.FlagUp}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(n.file.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("make link %s: %v", name, err)
	}
	t.Cleanup(func() { netlink.LinkDel(veth) })
	for i := 0; i < len(addrs); i += 2 {
		if err := addAddr(veth, addrs[i]); err != nil {
			t.Fatalf("address %s: %v", addrs[i], err)
		}
	}
	n.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		for i := 0; i < len(addrs); i += 2 {
			if err := addAddr(eth0, addrs[i+1]); err != nil {
				return err
			}
			gateway, _, err := net.ParseCIDR(addrs[i])
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway}); err != nil {
				return err
			}
		}
		return nil
	})
	return n
}

func addAddr(l netlink.Link, addr string) error {
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(l, a)
}

// NoTables checks that the host has no nftables table of a daemon, and that it forwards nothing.
func NoTables(t testing.TB) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		t.Errorf("nftables table %s is left", table.Name)
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		b, err := os.ReadFile("/proc/sys/net/" + key)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(b)) != "0" {
			t.Errorf("%s is left at %s", key, strings.TrimSpace(string(b)))
		}
	}
}

// LoopbackUp brings the loopback link of a namespace up, as a sandbox has it.
func (n *Namespace) LoopbackUp(t testing.TB) {
	t.Helper()
	n.Do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
}
