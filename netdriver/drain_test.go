package netdriver_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stack-run/stack/netdriver"
)

func TestConnectionsAreCountedUntilTheyEnd(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	other := outside(t)
	d.group = "stack/web"
	a := d.run("a", []string{"n"}, netdriver.Port{HostPort: 7300, Target: 81, Protocol: "tcp"})
	b := d.run("b", []string{"n"}, netdriver.Port{HostPort: 7300, Target: 81, Protocol: "tcp"})
	for _, c := range []*container{a, b} {
		c.Do(t, func() error { return echo(t, c.id, 81) })
	}
	if err := d.SetReadiness(ctx, map[string]netdriver.Readiness{b.id: netdriver.Standby}); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	dial := func(from interface {
		Do(testing.TB, func() error)
	}, addr string) {
		from.Do(t, func() error {
			c, err := net.Dial("tcp", addr)
			conns = append(conns, c)
			return err
		})
	}
	dial(other, "203.0.113.1:7300")
	dial(other, "203.0.113.1:7300")
	dial(b, net.JoinHostPort(a.addr4().String(), "81"))
	dial(a, "127.0.0.1:81")                             // its own, as of a health check
	dial(a, net.JoinHostPort(b.addr4().String(), "81")) // one that it makes
	for _, c := range conns {
		ask(t, c)
	}
	if got := must(d.Connections(ctx, []string{a.id, b.id, "gone"})); got[a.id] != 3 || got[b.id] != 1 || got["gone"] != 0 {
		t.Errorf("connections: %v", got)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := d.WaitDrained(short, a.id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with connections: %v", err)
	}
	drained := make(chan error, 1)
	go func() { drained <- d.WaitDrained(ctx, a.id) }()
	for _, c := range conns[:2] {
		c.Close()
	}
	for must(d.Connections(ctx, []string{a.id}))[a.id] != 1 {
		runtime.Gosched()
	}
	select {
	case err := <-drained:
		t.Fatalf("drained with a connection left: %v", err)
	default:
	}
	start := time.Now()
	conns[2].Close()
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	t.Logf("told %s after the last connection ended", time.Since(start))
	for _, id := range []string{a.id, "gone"} {
		if err := d.WaitDrained(ctx, id); err != nil {
			t.Errorf("%s, which has none: %v", id, err)
		}
	}
	conns[3].Close()
	conns[4].Close()
}
