package main

import (
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

func TestPortsAreWrittenAsDockerWritesThem(t *testing.T) {
	port := func(ip string, published, target int, protocol string) api.PublishedPort {
		return api.PublishedPort{HostIP: ip, Published: published, Target: target, Protocol: protocol}
	}
	for situation, c := range map[string]struct {
		ports []api.PublishedPort
		want  string
	}{
		"none":                {nil, ""},
		"exposed only":        {[]api.PublishedPort{port("", 0, 80, "tcp")}, "80/tcp"},
		"exposed neighbours":  {[]api.PublishedPort{port("", 0, 81, "tcp"), port("", 0, 80, "tcp")}, "80-81/tcp"},
		"both families":       {[]api.PublishedPort{port("::", 8080, 80, "tcp"), port("0.0.0.0", 8080, 80, "tcp")}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"},
		"a range as it is":    {[]api.PublishedPort{port("0.0.0.0", 81, 81, "udp"), port("0.0.0.0", 80, 80, "udp")}, "0.0.0.0:80-81->80-81/udp"},
		"a shifted range":     {[]api.PublishedPort{port("0.0.0.0", 8080, 80, "tcp"), port("0.0.0.0", 8081, 81, "tcp")}, "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp"},
		"one target twice":    {[]api.PublishedPort{port("127.0.0.1", 9000, 80, "tcp"), port("0.0.0.0", 8080, 80, "tcp")}, "0.0.0.0:8080->80/tcp, 127.0.0.1:9000->80/tcp"},
		"exposed and mapped":  {[]api.PublishedPort{port("", 0, 443, "tcp"), port("0.0.0.0", 8080, 80, "tcp")}, "443/tcp, 0.0.0.0:8080->80/tcp"},
		"a gap ends a range":  {[]api.PublishedPort{port("", 0, 1, "tcp"), port("", 0, 3, "tcp")}, "1/tcp, 3/tcp"},
		"protocols are apart": {[]api.PublishedPort{port("", 0, 53, "udp"), port("", 0, 53, "tcp")}, "53/tcp, 53/udp"},
	} {
		t.Run(situation, func(t *testing.T) {
			if got := ports(c.ports); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestStatusIsInDockersWords(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		container api.Container
		want      string
	}{
		{api.Container{State: "created"}, "Created"},
		{api.Container{State: "running", Started: now.Add(-5 * time.Second)}, "Up 5 seconds"},
		{api.Container{State: "running", Started: now, Health: "starting"}, "Up Less than a second (health: starting)"},
		{api.Container{State: "running", Started: now.Add(-time.Hour), Health: "unhealthy"}, "Up About an hour (unhealthy)"},
		{api.Container{State: "paused", Started: now.Add(-time.Minute), Health: "healthy"}, "Up About a minute (Paused)"},
		{api.Container{State: "exited", ExitCode: 3, Finished: now.Add(-2 * time.Hour)}, "Exited (3) 2 hours ago"},
		{api.Container{State: "restarting", ExitCode: 1, Finished: now.Add(-2 * time.Second)}, "Restarting (1) 2 seconds ago"},
		{api.Container{State: "broken"}, "Dead"},
	} {
		if got := containerStatus(c.container, now); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
