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
