package netdriver_test

import (
	"strings"
	"testing"
)

func TestARenamedContainerIsKnownByItsNewName(t *testing.T) {
	d := newDaemon(t)
	d.network(v4("n"))
	d.group, d.service = "s/svc", "svc"
	c := d.run("before", []string{"n"})
	names := d.nameService()
	known := func() string {
		all, err := names.LookupAddr(ctx, c.addr4().String())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, " ")
	}
	if got := known(); !strings.HasPrefix(got, "before") {
		t.Errorf("its address is that of %q", got)
	}
	if err := d.Rename(c.id, "after"); err != nil {
		t.Fatal(err)
	}
	if got := known(); !strings.HasPrefix(got, "after") {
		t.Errorf("renamed, its address is that of %q", got)
	}
	if got := d.resolve(names, "svc"); got != "after" {
		t.Errorf("its service's name is that of %q", got)
	}
}
