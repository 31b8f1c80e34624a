package netdriver_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
)

func TestHeldConnectionsWaitForTheNextContainer(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	other := outside(t)
	d.group = "stack/web"
	old, port := d.run("old", []string{"n"}, netdriver.Port{HostPort: 7150, Target: 80, Protocol: "tcp"}), netdriver.Port{HostPort: 7150, Target: 80, Protocol: "tcp"}
	d.group = ""
	client := d.run("client", []string{"n"})
	if err := d.Hold(ctx, []string{old.id}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := d.Unpublish(ctx, []string{old.id}); err != nil {
		t.Fatal(err)
	}
	old.reserved.Close()
	answers := make(chan string, 3)
	for _, from := range []*drivertest.Namespace{other, client.Namespace, nil} {
		go func() {
			dial := func() error {
				c, err := net.DialTimeout("tcp", "203.0.113.1:7150", 20*time.Second)
				if err != nil {
					answers <- err.Error()
					return nil
				}
				defer c.Close()
				buf := make([]byte, 100)
				n, _ := c.Read(buf)
				answers <- string(buf[:n])
				return nil
			}
			if from == nil {
				dial()
			} else {
				from.Do(t, dial)
			}
		}()
	}
	for _, from := range []*drivertest.Namespace{other, client.Namespace, nil} {
		waitForSYN(t, from)
	}
	d.group = "stack/web"
	next := d.run("next", []string{"n"}, port)
	serve(t, next.Namespace, "next", 80)
	select {
	case got := <-answers:
		t.Fatalf("answered while held: %q", got)
	default:
	}
	if err := d.Unhold(ctx, []string{old.id}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := <-answers; !strings.HasPrefix(got, "next") {
			t.Errorf("a client that connected in the gap: %q", got)
		}
	}
}

// waitForSYN waits until a namespace has a connection in the making.
func waitForSYN(t *testing.T, in *drivertest.Namespace) {
	t.Helper()
	const synSent = 2
	for giveUp := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		found := false
		look := func() error {
			sockets, err := netlink.SocketDiagTCP(unix.AF_INET)
			for _, s := range sockets {
				found = found || s.State == synSent
			}
			return err
		}
		if in == nil {
			if err := look(); err != nil {
				t.Fatal(err)
			}
		} else {
			in.Do(t, look)
		}
		if found {
			return
		}
		if time.Now().After(giveUp) {
			t.Fatal("nobody connects")
		}
	}
}

func TestAHoldEndsByItself(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	web := d.replicas([]string{"a"}, netdriver.Port{HostPort: 7160, Target: 80, Protocol: "tcp"})[0]
	if err := d.Hold(ctx, []string{web.id}, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	d.open() // the daemon that could end it has gone
	start := time.Now()
	c, err := net.DialTimeout("tcp", "127.0.0.1:7160", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("connected after %s", took)
	}
}

func TestWhatOthersOfTheGroupServeIsNotHeld(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	d.replicas([]string{"a", "b"}, netdriver.Port{HostPort: 7170, Target: 80, Protocol: "tcp"})
	if err := d.Hold(ctx, []string{"id-a"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	callers(t, nil, "tcp", "127.0.0.1:7170", 20)
	if err := d.Hold(ctx, []string{"id-a", "id-b"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t, nil, "tcp", "127.0.0.1:7170"); err == nil {
		t.Errorf("%q answers though all are held", got)
	}
	if err := d.Unhold(ctx, []string{"id-a", "id-b"}); err != nil {
		t.Fatal(err)
	}
	callers(t, nil, "tcp", "127.0.0.1:7170", 1)
}
