package e2e

import (
	"strings"
	"testing"
)

func TestContainersAreHardenedByDefault(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  plain: {image: busybox, init: true, command: [sleep, infinity]}
  dropped: {image: busybox, init: true, command: [sleep, infinity], cap_drop: [ALL], cap_add: [NET_BIND_SERVICE], security_opt: ["no-new-privileges:true"], read_only: true, user: "1000:1000"}
  privileged: {image: busybox, init: true, command: [sleep, infinity], privileged: true}
  unconfined: {image: busybox, init: true, command: [sleep, infinity], security_opt: ["seccomp=unconfined"]}
`)
	status := func(service, field string) string {
		t.Helper()
		return strings.TrimSpace(h.In(service, "sed", "-n", "s/^"+field+":\t//p", "/proc/1/status"))
	}
	equal(t, "default capabilities", status("plain", "CapBnd"), "00000000a80425fb")
	equal(t, "seccomp of a plain container", status("plain", "Seccomp"), "2")
	equal(t, "all dropped but one", status("dropped", "CapBnd"), "0000000000000400")
	equal(t, "no new privileges", status("dropped", "NoNewPrivs"), "1")
	equal(t, "seccomp of a privileged container", status("privileged", "Seccomp"), "0")
	equal(t, "seccomp unconfined", status("unconfined", "Seccomp"), "0")

	for _, c := range []struct{ what, service, script string }{
		{"mounting", "plain", "mkdir -p /m && mount -t tmpfs tmpfs /m"},
		{"unsharing a user namespace", "plain", "unshare -U true"},
		{"writing to sysctls", "plain", "echo 1 >/proc/sys/kernel/panic"},
		{"triggering sysrq", "plain", "echo h >/proc/sysrq-trigger"},
		{"reading the kernel's keys", "plain", "test -s /proc/keys"},
		{"using a block device", "plain", "mknod /disk b 254 0 && head -c1 /disk"},
		{"writing to a read-only root", "dropped", "touch /x"},
	} {
		if r := h.Try("exec", "-T", c.service, "sh", "-c", c.script); r.Code == 0 {
			t.Errorf("%s is possible in a %s container", c.what, c.service)
		}
	}
	h.In("privileged", "sh", "-c", "mkdir -p /m && mount -t tmpfs tmpfs /m && umount /m")
	equal(t, "few processes are seen", h.In("plain", "sh", "-c", "[ $(ls -d /proc/[0-9]* | wc -l) -lt 10 ] && echo yes"), "yes")
}

func TestAUserNamespaceMapsRoot(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  mapped: {image: busybox, init: true, command: [sleep, infinity], userns_mode: auto, volumes: ["data:/data"], ports: ["8080:80"]}
volumes: {data: }
`)
	equal(t, "inside", h.In("mapped", "id", "-u"), "0")
	uid := h.Sh(`ps -o uid= -p $(pgrep -x sleep | head -1) | tr -d ' '`)
	if uid == "0" {
		t.Error("root in the container is root on the host")
	}
	h.In("mapped", "sh", "-c", "touch /x /data/x && chown 1000 /x")
}

func TestSecretsAndConfigsHaveTheirOwnerAndMode(t *testing.T) {
	h := start(t)
	h.Write("key.txt", "the key")
	h.Write("", `
services:
  a:
    image: busybox
    init: true
    command: [sleep, infinity]
    user: "1000:1000"
    secrets:
      - key
      - {source: key, target: /etc/app/key, uid: "1000", gid: "1001", mode: 0400}
    configs:
      - {source: settings, target: /settings.ini}
    environment: {TOKEN_FILE: /run/secrets/key}
secrets:
  key: {file: ./key.txt}
configs:
  settings: {content: "color=blue"}
`)
	h.Stack("up", "-d", "--wait")
	equal(t, "the secret", h.In("a", "cat", "/run/secrets/key"), "the key")
	equal(t, "owner and mode", h.In("a", "stat", "-c", "%u:%g %a", "/etc/app/key"), "1000:1001 400")
	equal(t, "the config", h.In("a", "cat", "/settings.ini"), "color=blue")
	contains(t, "where secrets lie", h.In("a", "grep", "secrets", "/proc/mounts"), "tmpfs")
	for _, out := range []string{h.Stack("config"), h.Stack("plan"), h.Sh(`grep -r 'the key' $STACK_ROOT || true`)} {
		if strings.Contains(out, "the key") {
			t.Errorf("the secret is shown: %s", out)
		}
	}
	h.Write("key.txt", "a new key")
	contains(t, "plan", h.Try("plan").Stdout, "service.a")
	h.Stack("up", "-d", "--wait")
	equal(t, "the new secret", h.In("a", "cat", "/run/secrets/key"), "a new key")
}
