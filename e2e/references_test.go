package e2e

import "testing"

const (
	dataStack = `
name: data
services:
  db:
    image: busybox
    init: true
    restart: always
    command: [sh, -c, 'while [ ! -e /gate/open ]; do sleep 0.05; done; touch /ready; exec sleep infinity']
    volumes: ["./gate:/gate"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, start_period: 60s, start_interval: 100ms}
`
	shopStack = `
name: shop
services:
  web:
    image: busybox
    init: true
    restart: always
    command: [sleep, infinity]
    x-stack: {depends_on: {data/db: {condition: service_healthy}}}
`
)

func TestAServiceWaitsForAServiceOfAnotherStack(t *testing.T) {
	h := start(t)
	h.Write("data.yaml", dataStack)
	h.Write("shop.yaml", shopStack)
	h.Sh("mkdir gate")
	h.Fails([]string{"-f", "shop.yaml", "up", "-d"}, "shop.yaml:4", "data/db", "no stack data on this host")
	h.Stack("-f", "data.yaml", "up", "-d")
	contains(t, "the plan", h.Run(h.Command("stack", "-f", "shop.yaml", "plan")).Stdout, "stack.data/service.db", "wait", "healthy")
	h.Background(h.Command("stack", "-f", "shop.yaml", "up", "-d"))
	h.Eventually("web is made and waits", func() bool {
		web := h.PsOf("shop", "web")
		return len(web) == 1 && web[0].State == "created"
	})
	equal(t, "db", h.PsOf("data", "db")[0].Health, "starting")
	h.Sh("touch gate/open")
	h.Eventually("web runs", func() bool { return h.PsOf("shop", "web")[0].State == "running" })
	equal(t, "db", h.PsOf("data", "db")[0].Health, "healthy")
	h.Stack("-p", "shop", "down")
	h.Stack("-p", "data", "down")
}

func TestStacksThatWaitForEachOtherAreRefused(t *testing.T) {
	h := start(t)
	h.Sh("mkdir gate; touch gate/open")
	h.Write("data.yaml", dataStack)
	h.Write("shop.yaml", shopStack)
	h.Stack("-f", "data.yaml", "up", "-d")
	h.Stack("-f", "shop.yaml", "up", "-d")
	h.Write("data.yaml", dataStack+"    x-stack: {depends_on: [shop/web]}\n")
	h.Fails([]string{"-f", "data.yaml", "up", "-d"}, "data.yaml:4", "data/db -> shop/web -> data/db")
	equal(t, "db", h.PsOf("data", "db")[0].State, "running")
	h.Stack("-p", "shop", "down")
	h.Stack("-p", "data", "down")
}

func TestAfterARebootStacksComeBackInTheOrderInWhichTheyWaitForEachOther(t *testing.T) {
	h := start(t)
	h.Sh("mkdir gate")
	h.Write("data.yaml", `
name: data
services:
  db:
    image: busybox
    init: true
    restart: always
    command: [sh, -c, 'sleep 0.5; touch /gate/up /ready; exec sleep infinity']
    tmpfs: [/tmp]
    volumes: ["./gate:/gate"]
    healthcheck: {test: [CMD, test, -e, /gate/up], interval: 100ms, start_period: 60s, start_interval: 100ms}
`)
	h.Write("a-shop.yaml", `
name: a-shop
services:
  web:
    image: busybox
    init: true
    restart: always
    command: [sh, -c, 'if [ -e /gate/up ]; then echo after; else echo early; fi >>/gate/starts; exec sleep infinity']
    volumes: ["./gate:/gate"]
    x-stack: {depends_on: {data/db: {condition: service_healthy}}}
`)
	h.Stack("-f", "data.yaml", "up", "-d")
	h.Stack("-f", "a-shop.yaml", "up", "-d")
	h.Eventually("web has started", func() bool { return h.Sh("cat gate/starts 2>/dev/null || true") == "after" })
	h.Kill(h.DaemonPID()) // it would restart what dies a moment before itself
	h.Sh("rm gate/up; sync")
	h.Reboot()
	h.Background(h.Command("sh", "-c", "exec stack daemon >>$STACK_ROOT/daemon.log 2>&1"))
	h.Eventually("web has started again", func() bool { return h.Sh("wc -l <gate/starts") == "2" })
	equal(t, "starts of web", h.Sh("cat gate/starts"), "after\nafter")
	h.Eventually("the daemon listens", func() bool { return h.Sh(`[ -S $STACK_RUN/stack.sock ] && echo yes || true`) == "yes" })
	h.Stack("-p", "a-shop", "down")
	h.Stack("-p", "data", "down")
}
