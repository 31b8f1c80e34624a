package loopback6_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivers"
	"github.com/stack-run/stack/netdriver/drivertest"
	"github.com/stack-run/stack/netdriver/loopback6"
)

func TestMain(m *testing.M) { drivertest.Main(m) }

// reserve holds a port as the daemon does, and gives the IPv6 and the IPv4 socket.
func reserve(t *testing.T, protocol string) (port uint16, six, four *os.File) {
	t.Helper()
	m, err := drivers.Open(netdriver.Options{Root: t.TempDir(), RunDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ports, held, err := m.Reserve(t.Context(), netdriver.Holder{ContainerID: "c", Name: "c"}, []netdriver.Port{{Target: 80, Protocol: protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	e := netdriver.Endpoint{}
	e.IPv4 = netip.MustParsePrefix("10.0.0.2/24")
	forwards := held.Forwards(e)
	if len(forwards) != 1 || len(held.Files) != 2 || forwards[0].Target != netip.MustParseAddrPort("10.0.0.2:80") {
		t.Fatalf("%d files, forwards %+v", len(held.Files), forwards)
	}
	return ports[0].HostPort, held.Files[forwards[0].File], held.Files[1-forwards[0].File]
}

func TestTCP(t *testing.T) {
	port, six, four := reserve(t, "tcp")
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c) // until the client's half-close
				fmt.Fprintf(c, "%d bytes", len(b))
			}()
		}
	}()
	if _, err := loopback6.Serve(four, netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, loopback6.ErrNotNeeded) {
		t.Errorf("the IPv4 socket: %v", err)
	}
	closer, err := loopback6.Serve(six, netip.MustParseAddrPort(server.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 1 << 20
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != fmt.Sprintf("%d bytes", size) {
		t.Errorf("%q, %v", b, err)
	}
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
}

func TestTCPToNobodyIsReset(t *testing.T) {
	port, six, _ := reserve(t, "tcp")
	closer, err := loopback6.Serve(six, netip.MustParseAddrPort("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	c, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", port))
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	var timeout net.Error
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%v, expected a reset", err)
	}
}

func TestUDP(t *testing.T) {
	port, six, _ := reserve(t, "udp")
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(buf[:n], from)
		}
	}()
	closer, err := loopback6.Serve(six, netip.MustParseAddrPort(server.LocalAddr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	for client := range 3 {
		c, err := net.Dial("udp", fmt.Sprintf("[::1]:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		for i := range 3 {
			want := fmt.Sprintf("client %d datagram %d", client, i)
			c.Write([]byte(want))
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if string(buf[:n]) != want {
				t.Errorf("%q, %v, expected %q", buf[:n], err, want)
			}
		}
	}
}
