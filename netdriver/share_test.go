package netdriver_test

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
)

func TestOnlyTheGroupSharesAPort(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	ports := []netdriver.Port{{HostPort: 7130, Target: 80, Protocol: "tcp"}, {HostPort: 7130, Target: 80, Protocol: "udp"}}
	reserve := func(id, group string) (netdriver.Reservation, error) {
		_, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: id, Name: id, Group: group}, ports)
		t.Cleanup(func() { held.Close(); d.Release(id) })
		return held, err
	}
	first, err := reserve("first", "stack/web")
	if err != nil {
		t.Fatal(err)
	}
	second, err := reserve("second", "stack/web")
	if err != nil || len(second.Files) != len(first.Files) {
		t.Fatalf("another of the group: %d files, %v", len(second.Files), err)
	}
	var inUse *netdriver.PortInUseError
	if _, err := reserve("other", "stack/other"); !errors.As(err, &inUse) || inUse.Container == "" {
		t.Errorf("another group: %v", err)
	}
	if _, err := reserve("alone", ""); !errors.As(err, &inUse) || inUse.Container == "" {
		t.Errorf("a container without a group: %v", err)
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		if err := bindSharing(t, kind, 7130); err != unix.EADDRINUSE {
			t.Errorf("another program that asks to share: %v", err)
		}
	}
	if _, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: "second", Name: "second", Group: "stack/web"}, ports); err != nil || len(held.Files) > 0 {
		t.Errorf("reserved again by one that has it: %d files, %v", len(held.Files), err)
	}
	first.Close() // it bound first
	d.Release("first")
	if l, err := net.Listen("tcp", ":7130"); err == nil {
		l.Close()
		t.Error("the port is free though one of the group has it")
	}
	d.open() // a daemon that knows the claims from the records only
	e := netdriver.Endpoint{Network: "n", ContainerID: "second", Container: "second", Group: "stack/web", Ports: ports}
	if err := d.Restore([]netdriver.Endpoint{e}, map[string]string{"second": "/proc/self/ns/net"}); err != nil {
		t.Fatal(err)
	}
	if _, err := reserve("third", "stack/web"); err != nil {
		t.Errorf("one more of the group, with a new daemon: %v", err)
	}
	if _, err := reserve("other", "stack/other"); !errors.As(err, &inUse) || inUse.Container == "" {
		t.Errorf("another group, with a new daemon: %v", err)
	}
}

// bindSharing binds a port as a program does that is ready to share it.
func bindSharing(t *testing.T, kind, port int) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, option := range []int{unix.SO_REUSEPORT, unix.SO_REUSEADDR} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			t.Fatal(err)
		}
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port})
}

func TestARangeGivesEachOfTheGroupItsOwn(t *testing.T) {
	d := newDaemon(t)
	seen := map[uint16]bool{}
	for _, id := range []string{"a", "b", "c"} {
		got, held, err := d.Reserve(ctx, netdriver.Holder{ContainerID: id, Name: id, Group: "stack/web"}, []netdriver.Port{{HostPort: 7140, HostPortEnd: 7142, Target: 80, Protocol: "tcp"}})
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		seen[got[0].HostPort] = true
	}
	if len(seen) != 3 {
		t.Errorf("ports %v", seen)
	}
}
