package e2e

import (
	"sort"
	"strings"
	"testing"
)

func TestNamesResolve(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  client:
    image: busybox
    init: true
    command: [sleep, infinity]
    links: ["db:database"]
    extra_hosts: ["printer:192.0.2.7", "up:host-gateway"]
    networks: [front, back]
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    deploy: {replicas: 3}
    networks: {front: {aliases: [www]}}
  db:
    image: busybox
    init: true
    command: [sleep, infinity]
    container_name: the-db
    hostname: db-host
    networks: [back]
networks:
  front:
  back: {internal: true}
`)
	addresses := func(name string) []string {
		t.Helper()
		var found []string
		out := h.In("client", "sh", "-c", "nslookup -type=a "+name+" || true")
		for line := range strings.Lines(out[strings.Index(out, "Name:")+1:]) {
			if rest, ok := strings.CutPrefix(line, "Address: "); ok {
				found = append(found, strings.TrimSpace(rest))
			}
		}
		sort.Strings(found)
		return found
	}
	for _, c := range []struct {
		name string
		want int
	}{{"web", 3}, {"www", 3}, {"WEB", 3}, {"work-web-2", 1}, {"db", 1}, {"the-db", 1}, {"database", 1}, {"nobody", 0}} {
		if got := addresses(c.name); len(got) != c.want {
			t.Errorf("%s resolves to %v, want %d addresses", c.name, got, c.want)
		}
	}
	contains(t, "/etc/hosts", h.In("client", "cat", "/etc/hosts"), "192.0.2.7\tprinter")
	equal(t, "the host name", h.In("db", "hostname"), "db-host")

	h.Stack("up", "-d", "--wait", "--scale", "web=1")
	if got := addresses("web"); len(got) != 1 {
		t.Errorf("web resolves to %v after scaling to one", got)
	}
	h.Stack("stop", "db")
	if got := addresses("db"); len(got) != 0 {
		t.Errorf("db resolves to %v while stopped", got)
	}
}

func TestOtherNamesGoToTheHostsResolvers(t *testing.T) {
	h := start(t)
	h.Write("resolv.conf", "nameserver 127.0.0.53\n")
	h.Sh(`mount --bind resolv.conf /etc/resolv.conf`)
	t.Cleanup(func() { h.Sh(`umount /etc/resolv.conf`) })
	h.Write("dns.py", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.53", 53))
while True:
    query, peer = s.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    a = query[end-4:end-2] == b"\0\1"
    answer = query[:2] + b"\x81\x80" + query[4:6] + (b"\0\1" if a else b"\0\0") + b"\0\0\0\0" + query[12:end]
    if a: answer += b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\xc0\0\2\x2a"
    s.sendto(answer, peer)
`)
	h.Background(h.Command("python3", "dns.py"))
	h.Eventually("the resolver listens", func() bool { return strings.Contains(h.Sh(`ss -lun`), "127.0.0.53:53") })
	h.Up(`services: {a: {image: busybox, init: true, command: [sleep, infinity]}}`)
	contains(t, "the answer", h.In("a", "nslookup", "-type=a", "elsewhere.example"), "192.0.2.42")
}
