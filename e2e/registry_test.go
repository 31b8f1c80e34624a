package e2e

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/e2e/images"
)

func TestARegistryThatAsksForAPasswordGetsIt(t *testing.T) {
	h := start(t)
	const hash = "$2a$04$uWfQvNGjBasKGqNDlZpgauSpuUfO8XIpFd4rAsYHJLDtT.X.5jr22" // bcrypt of "open sesame"
	h.Registry(images.Registry{Addr: "127.0.0.1:5001", Users: []string{"ali:" + hash}})
	h.Write("", `services: {a: {image: "127.0.0.1:5001/library/busybox", init: true, command: [sleep, infinity]}}`)
	h.Fails([]string{"up", "-d"}, "127.0.0.1:5001/library/busybox", "login")
	auth := base64.StdEncoding.EncodeToString([]byte("ali:open sesame"))
	h.Sh(`mkdir -p ~/.docker && echo '{"auths":{"127.0.0.1:5001":{"auth":"` + auth + `"}}}' >~/.docker/config.json`)
	h.Stack("up", "-d", "--wait")
}

func TestAnImageThatDoesNotExistIsRefusedByName(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  good: {image: busybox, init: true, command: [sleep, infinity]}
  bad: {image: "nosuchimage:9"}
`)
	h.Fails([]string{"up", "-d"}, "nosuchimage:9")
	if got := len(h.Ps()); got != 0 {
		t.Errorf("%d containers were made", got)
	}
}

func TestALayerCutOffInTheMiddleIsResumed(t *testing.T) {
	h := start(t, host.NoRegistry(), host.Config("registries: {docker.io: {mirrors: [\"http://127.0.0.1:5002\"]}}\n"))
	h.Registry(images.Registry{Addr: host.Mirror})
	h.Write("proxy.py", cuttingProxy)
	h.Background(h.Command("python3", "proxy.py", "5002", "5000"))
	h.Eventually("the proxy listens", func() bool { return strings.Contains(h.Sh(`ss -ltn`), ":5002") })
	h.Up(`services: {a: {image: python:3-alpine, init: true, command: [sleep, infinity]}}`)
	contains(t, "python", h.In("a", "python3", "-c", "print('whole')"), "whole")
	if cuts := h.Sh(`wc -l <cuts`); cuts == "0" {
		t.Error("no connection was cut")
	}
}

// cuttingProxy forwards a port to another and cuts each of the first three connections that have carried 3 MB.
const cuttingProxy = `
import socket, sys, threading
left, lock, log = 3, threading.Lock(), open("cuts", "w", buffering=1)
def pump(a, b, limited):
    global left
    carried = 0
    try:
        while data := a.recv(65536):
            carried += len(data)
            if limited and carried > 3 << 20:
                with lock:
                    cut = left > 0
                    left -= cut
                if cut:
                    print("cut", file=log)
                    break
                limited = False
            b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    upstream = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    threading.Thread(target=pump, args=(client, upstream, False), daemon=True).start()
    threading.Thread(target=pump, args=(upstream, client, True), daemon=True).start()
`

func TestKilledInTheMiddleOfAPullTheNextOneIsWhole(t *testing.T) {
	h := start(t)
	h.Write("", `services: {a: {image: "postgres:15-alpine", init: true, command: [sleep, infinity]}}`)
	for _, delay := range []string{"0.3", "0.8", "1.5"} {
		h.Run(h.Command("bash", "-c", `stack pull -q & sleep `+delay+`; kill -9 $(pgrep -f '`+daemon+`'); wait`))
	}
	h.Stack("up", "-d", "--wait")
	contains(t, "a program of the last layer", h.In("a", "postgres", "--version"), "PostgreSQL")
}

func TestACommandThatIsNotInTheImageIsNamed(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  good: {image: busybox, init: true, command: [sleep, infinity]}
  bad: {image: busybox, command: [/no/such/program]}
`)
	h.Fails([]string{"up", "-d"}, "bad", "/no/such/program")
	equal(t, "the other service", h.One("good").State, "running")
}
