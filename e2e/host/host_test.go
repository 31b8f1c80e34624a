package host

import (
	"strings"
	"testing"
)

func TestAMachineHasItsOwnProcessesMountsNetworkAndCgroups(t *testing.T) {
	h := New(t)
	if got := h.Sh(`ps -e -o args= | grep -c bash`); got == "0" {
		t.Error("no first process")
	}
	if got := h.Sh(`cat /proc/self/cgroup | grep -v ':/init$' || true`); got != "" {
		t.Errorf("outside of /init: %s", got)
	}
	if got := h.Sh(`ip -o link | wc -l`); got != "1" {
		t.Errorf("%s links", got)
	}
	h.Sh(`for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -e $d/init ] && mkdir $d/x; done; mount -t tmpfs tmpfs /mnt; ip link add br9 type bridge; nft add table inet x`)
	if got := h.observe(); !strings.Contains(strings.Join(got["mount"], "\n"), " /mnt ") || len(got["link"]) != 2 {
		t.Errorf("not observed: %v", got)
	}
	h.Sh(`rmdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null || true; umount /mnt; ip link del br9; nft delete table inet x`)
}

func TestTheMirrorServesTheImages(t *testing.T) {
	h := New(t)
	if got := h.Get("http://" + Mirror + "/v2/library/nginx/tags/list"); !strings.Contains(got, "alpine") {
		t.Error(got)
	}
}
