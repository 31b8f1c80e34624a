package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

const webFile = `
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'mkdir /www; echo from web >/www/index.html; httpd -f -p 80 -h /www']
    ports: ["8080:80", "127.0.0.1:8081:80"]
    healthcheck: {test: [CMD, wget, -qO-, "http://127.0.0.1/"], interval: 200ms}
    networks: [one]
  client: {image: busybox, init: true, command: [sleep, infinity], networks: [one]}
  stranger: {image: busybox, init: true, command: [sleep, infinity], networks: [two]}
networks:
  one: {enable_ipv6: true}
  two: {enable_ipv6: true}
`

func TestAPublishedPortIsReachedFromEverywhere(t *testing.T) {
	h := start(t)
	neighbour := h.Neighbour()
	h.Up(webFile)
	fetch := func(from func(string) string, url string) {
		t.Helper()
		if got := from(`curl -sS --fail --max-time 5 '` + url + `'`); got != "from web" {
			t.Errorf("%s: %q", url, got)
		}
	}
	for name, address := range map[string]string{"its IPv4 address": host.HostIPv4, "its IPv6 address": "[" + host.HostIPv6 + "]"} {
		t.Log("from another host by", name)
		fetch(neighbour.Sh, "http://"+address+":8080/")
	}
	for _, address := range []string{"127.0.0.1", "[::1]", "localhost", host.HostIPv4, "[" + host.HostIPv6 + "]"} {
		t.Log("from the host by", address)
		fetch(h.Sh, "http://"+address+":8080/")
	}
	gateway := h.In("client", "sh", "-c", `ip route | sed -nE 's/^default via ([0-9.]+).*/\1/p'`)
	for _, service := range []string{"web", "client", "stranger"} {
		for _, address := range []string{host.HostIPv4, gateway, "[" + host.HostIPv6 + "]"} {
			t.Log("from the container", service, "by", address)
			equal(t, address, h.In(service, "timeout", "5", "wget", "-qO-", "http://"+address+":8080/"), "from web")
		}
	}
	t.Log("a port of 127.0.0.1 only from the host")
	fetch(h.Sh, "http://127.0.0.1:8081/")
	if r := neighbour.Try(`curl -sS --max-time 1 http://` + host.HostIPv4 + `:8081/`); r.Code == 0 {
		t.Errorf("a port published on 127.0.0.1 answers another host: %v", r)
	}
}

func TestStacksAndNetworksAreIsolated(t *testing.T) {
	h := start(t)
	neighbour := h.Neighbour()
	h.Up(webFile)
	web := h.IP("web")
	equal(t, "the same network", h.In("client", "timeout", "5", "wget", "-qO-", "http://"+web+"/"), "from web")
	if r := h.Try("exec", "-T", "stranger", "timeout", "1", "wget", "-qO-", "http://"+web+"/"); r.Code == 0 {
		t.Error("another network of the stack reaches the container's address")
	}
	if r := h.Try("exec", "-T", "stranger", "nslookup", "web"); r.Code == 0 {
		t.Error("another network of the stack resolves the name")
	}
	if r := neighbour.Try(`curl -sS --max-time 1 http://` + web + `/`); r.Code == 0 {
		t.Error("another host reaches the container's address")
	}
	h.Write("other/compose.yaml", `services: {intruder: {image: busybox, init: true, command: [sleep, infinity]}}`)
	h.Stack("--project-directory", "other", "up", "-d", "--wait")
	if r := h.Try("--project-directory", "other", "exec", "-T", "intruder", "timeout", "1", "wget", "-qO-", "http://"+web+"/"); r.Code == 0 {
		t.Error("another stack reaches the container's address")
	}
}

func TestAnInternalNetworkReachesNothingOutside(t *testing.T) {
	h := start(t)
	neighbour := h.Neighbour()
	neighbour.Sh(`mkdir www && echo outside >www/index.html`)
	neighbour.Background("busybox", "httpd", "-f", "-p", "9000", "-h", "www")
	h.Up(`
services:
  open: {image: busybox, init: true, command: [sleep, infinity], networks: [outside]}
  closed: {image: busybox, init: true, command: [httpd, -f, -h, /etc], networks: [inside]}
  peer: {image: busybox, init: true, command: [sleep, infinity], networks: [inside]}
networks:
  outside:
  inside: {internal: true}
`)
	equal(t, "an ordinary network", h.In("open", "timeout", "5", "wget", "-qO-", "http://"+host.NeighbourIPv4+":9000/"), "outside")
	if r := h.Try("exec", "-T", "closed", "timeout", "1", "wget", "-qO-", "http://"+host.NeighbourIPv4+":9000/"); r.Code == 0 {
		t.Error("a container on an internal network reaches another host")
	}
	contains(t, "its own network", h.In("peer", "timeout", "5", "wget", "-qO-", "http://closed/passwd"), "root:x:0")
}

func TestPortsAndNamesWorkWhileTheDaemonIsDown(t *testing.T) {
	h := start(t)
	h.Up(webFile)
	h.Kill(h.DaemonPID())
	equal(t, "the page", h.Get("http://localhost:8080/"), "from web\n")
	pid := h.Sh(`pgrep -x sleep | head -1`)
	for _, p := range strings.Fields(h.Sh(`pgrep -x sleep`)) {
		if out := h.Run(h.Command("nsenter", "-t", p, "-n", "-m", "nslookup", "web")); strings.Contains(out.Stdout, "Name:") {
			pid = ""
		}
	}
	if pid != "" {
		t.Error("no container resolves a name while the daemon is down")
	}
}

func TestARandomPortIsShownByPort(t *testing.T) {
	h := start(t)
	h.Up(`services: {web: {image: busybox, init: true, command: [httpd, -f, -h, /etc], ports: ["80"]}}`)
	address := strings.TrimSpace(h.Stack("port", "web", "80"))
	address = strings.Replace(address, "0.0.0.0", "127.0.0.1", 1)
	contains(t, "the page", h.Get("http://"+address+"/passwd"), "root:x:0")
}

func TestAPortInUseIsRefusedNamingWhoHasIt(t *testing.T) {
	h := start(t)
	stop := h.Background(h.Command("busybox", "httpd", "-f", "-p", "8080"))
	h.Eventually("it listens", func() bool { return strings.Contains(h.Sh(`ss -ltn`), ":8080") })
	h.Write("", webFile)
	h.Fails([]string{"up", "-d"}, "8080", "busybox", "service.web")
	h.Stack("down", "-v")

	stop()
	h.Up(webFile)
	h.Write("other/compose.yaml", `services: {second: {image: busybox, init: true, command: [sleep, infinity], ports: ["8080:80"]}}`)
	h.Fails([]string{"--project-directory", "other", "up", "-d"}, "8080", "work", "web")
	equal(t, "the first one still answers", h.Get("http://localhost:8080/"), "from web\n")
}

func TestUDPPortsAndRangesAreForwarded(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  echo:
    image: python:3-alpine
    init: true
    command:
      - python3
      - -c
      - |
        import socket, threading
        def serve(port):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("", port))
            while True:
                data, peer = s.recvfrom(100)
                s.sendto(b"%d " % port + data, peer)
        for port in (7000, 7001): threading.Thread(target=serve, args=(port,)).start()
    ports: ["7000-7001:7000-7001/udp"]
`)
	for _, port := range []string{"7000", "7001"} {
		h.Eventually(port+" echoes", func() bool {
			return h.Sh(`exec 3<>/dev/udp/127.0.0.1/`+port+`; echo hi >&3; timeout 1 head -c 7 <&3 || true`) == port+" hi"
		})
	}
}

func TestReplicasShareAFixedPort(t *testing.T) {
	h := start(t)
	neighbour := h.Neighbour()
	h.Up(`
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'mkdir /www; hostname >/www/index.html; httpd -f -p 80 -h /www']
    ports: ["8080:80"]
    healthcheck: {test: [CMD, wget, -qO-, "http://127.0.0.1/"], interval: 200ms}
    deploy: {replicas: 3}
`)
	answers := func(from func(string) string, address string) int {
		t.Helper()
		seen := map[string]bool{}
		for _, line := range strings.Fields(from(`for i in $(seq 60); do curl -sS --fail --max-time 5 'http://` + address + `:8080/'; done`)) {
			seen[line] = true
		}
		return len(seen)
	}
	for _, address := range []string{host.HostIPv4, "[" + host.HostIPv6 + "]"} {
		equal(t, "replicas that answer another host at "+address, fmt.Sprint(answers(neighbour.Sh, address)), "3")
	}
	for _, address := range []string{"127.0.0.1", "[::1]"} {
		equal(t, "replicas that answer the host at "+address, fmt.Sprint(answers(h.Sh, address)), "3")
	}
	h.Kill(h.DaemonPID())
	h.Stack("up", "-d", "--wait", "--scale", "web=4")
	equal(t, "replicas that answer after the daemon was killed and one was added", fmt.Sprint(answers(neighbour.Sh, host.HostIPv4)), "4")
	h.Stack("up", "-d", "--wait", "--scale", "web=1")
	equal(t, "replicas that answer when one is left", fmt.Sprint(answers(neighbour.Sh, host.HostIPv4)), "1")
	h.Write("other/compose.yaml", `services: {second: {image: busybox, init: true, command: [sleep, infinity], ports: ["8080:80"]}}`)
	h.Fails([]string{"--project-directory", "other", "up", "-d"}, "8080", "work", "web")
}
