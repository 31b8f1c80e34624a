package netdriver_test

import (
	"fmt"
	"testing"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivertest"
)

// BenchmarkBatch connects and publishes 50 sandboxes on one network at once, and takes them away again.
func BenchmarkBatch(b *testing.B) {
	const count = 50
	d := newDaemon(b)
	d.network(v4("n"))
	for range b.N {
		b.StopTimer()
		sandboxes := make([]netdriver.Sandbox, count)
		ids := make([]string, count)
		for i := range sandboxes {
			ids[i] = fmt.Sprint("c", i)
			e := netdriver.Endpoint{Network: "n", ContainerID: ids[i], Container: ids[i], Names: []string{"svc", ids[i]}, Gateway: true,
				Ports: []netdriver.Port{{HostPort: uint16(20000 + i), Target: 80, Protocol: "tcp"}}}
			e = must(d.Allocate(ctx, []netdriver.Endpoint{e}))[0]
			sandboxes[i] = netdriver.Sandbox{ContainerID: ids[i], Netns: drivertest.NewNamespace(b).Path(), Endpoints: []netdriver.Endpoint{e}}
		}
		b.StartTimer()
		timed := func(what string, fn func() error) {
			start := b.Elapsed()
			if err := fn(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((b.Elapsed()-start).Microseconds())/count/1000, what+"-ms/sandbox")
		}
		timed("connect", func() error { _, err := d.Connect(ctx, sandboxes); return err })
		timed("publish", func() error { return d.Publish(ctx, sandboxes) })
		timed("unpublish", func() error { return d.Unpublish(ctx, ids) })
		timed("disconnect", func() error { return d.Disconnect(ctx, sandboxes) })
		b.StopTimer()
		for _, id := range ids {
			d.Release(id)
		}
	}
}

// BenchmarkEnsure makes and removes one network.
func BenchmarkEnsure(b *testing.B) {
	d := newDaemon(b)
	d.network(v4("other"))
	for range b.N {
		d.network(v4("n"))
		if err := d.Remove(ctx, "n"); err != nil {
			b.Fatal(err)
		}
	}
}
