package netdriver_test

import (
	"fmt"
	"os"
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

// many makes count containers on one network, in groups of ten that share a port and a virtual address.
func many(b *testing.B, count int) (*daemon, []netdriver.Sandbox) {
	b.Helper()
	d := newDaemon(b)
	run, err := os.MkdirTemp("/dev/shm", "stack-bench-*") // as /run is
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(run) })
	d.opts.RunDir = run
	d.open()
	n := v4("n")
	n.Room = count
	d.network(n)
	var sandboxes []netdriver.Sandbox
	for i := range count {
		id := fmt.Sprint("c", i)
		sandboxes = append(sandboxes, netdriver.Sandbox{ContainerID: id, Netns: drivertest.NewNamespace(b).Path(), Endpoints: must(d.Allocate(ctx, []netdriver.Endpoint{{
			Network: "n", ContainerID: id, Container: id, Names: []string{"svc", id}, Gateway: true, Group: fmt.Sprint("stack/g", i/10), WantVIP: true,
			Ports: []netdriver.Port{{HostPort: uint16(20000 + i/10), Target: 80, Protocol: "tcp"}},
		}}))})
	}
	must(d.Connect(ctx, sandboxes))
	if err := d.Publish(ctx, sandboxes); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, s := range sandboxes {
			d.Release(s.ContainerID)
		}
	})
	return d, sandboxes
}

// BenchmarkSetReadiness changes one container of 500, and all of them.
func BenchmarkSetReadiness(b *testing.B) {
	for _, changed := range []int{1, 500} {
		b.Run(fmt.Sprint(changed), func(b *testing.B) {
			d, sandboxes := many(b, 500)
			for i := 0; b.Loop(); i++ {
				changes := map[string]netdriver.Readiness{}
				for k, s := range sandboxes[:changed] {
					// Always half of each group, so that something is to be dealt anew.
					changes[s.ContainerID] = map[bool]netdriver.Readiness{true: netdriver.Serving, false: netdriver.Standby}[(k+i)%2 == 0]
				}
				if err := d.SetReadiness(ctx, changes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkObserveSandboxes looks at one container of 500, and at all of them.
func BenchmarkObserveSandboxes(b *testing.B) {
	for _, looked := range []int{1, 500} {
		b.Run(fmt.Sprint(looked), func(b *testing.B) {
			d, sandboxes := many(b, 500)
			for b.Loop() {
				if drift := must(d.ObserveSandboxes(ctx, sandboxes[:looked])); len(drift) > 0 {
					b.Fatal(drift)
				}
			}
		})
	}
}

// BenchmarkObserve looks at a network with 500 containers on it.
func BenchmarkObserve(b *testing.B) {
	d, _ := many(b, 500)
	for b.Loop() {
		if drift := must(d.Observe(ctx, "n")); len(drift) > 0 {
			b.Fatal(drift)
		}
	}
}
