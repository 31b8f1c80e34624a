package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

// What comes from a stack file or an image is accepted or refused, never worse.

func FuzzUser(f *testing.F) {
	for _, s := range []string{"", "web", "web:video", "1:2", "-1", "0x1", "4294967296", ":", "a:b:c", "root:"} {
		f.Add(s, imageFiles["/etc/passwd"], imageFiles["/etc/group"])
	}
	f.Add("a", "a:x:-5:99999999999::\n:::::::\na", "g:x:\n")
	f.Fuzz(func(t *testing.T, name, passwd, group string) {
		u, err := LookupUser(name, []byte(passwd), []byte(group))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is not classified", err)
			}
			return
		}
		gids := u.additional()
		if u.UID > 1<<31-1 || gids[0] != u.GID || len(gids) != len(slices.Compact(slices.Sorted(slices.Values(gids)))) {
			t.Errorf("%+v, groups %v", u, gids)
		}
	})
}

func FuzzSecurityOpt(f *testing.F) {
	for _, s := range []string{"no-new-privileges", "no-new-privileges=", "seccomp=", "seccomp:unconfined", "=", "a=b", "label=user:x", "systempaths=unconfined"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, opt string) {
		s, err := parseSecurityOpts([]string{opt})
		if err == nil && s == (security{}) && !strings.HasPrefix(opt, "label") && !strings.HasPrefix(opt, "apparmor") &&
			!strings.HasPrefix(opt, "no-new-privileges") && !strings.HasPrefix(opt, "writable-cgroups") {
			t.Errorf("%q is ignored in silence", opt)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%v is not classified", err)
		}
	})
}

func FuzzDeviceRule(f *testing.F) {
	for _, s := range []string{"c 1:3 mr", "a *:* rwm", "c 99999999999:1 r", "b 8:* r", "c -1:3 r", " c 1:3 r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return
		}
		number := func(n *int64) string {
			if n == nil {
				return "*"
			}
			return fmt.Sprint(*n)
		}
		again, err := parseDeviceRule(fmt.Sprintf("%s %s:%s %s", rule.Type, number(rule.Major), number(rule.Minor), rule.Access))
		if err != nil || again.Access != rule.Access || number(again.Major) != number(rule.Major) {
			t.Errorf("%q is read as %+v, and that as %+v, %v", text, rule, again, err)
		}
	})
}

func FuzzLimits(f *testing.F) {
	f.Add("nofile", int64(1), int64(2))
	f.Add("memlock", int64(-1), int64(-1))
	f.Add("NOFILE", int64(-2), int64(1<<62))
	f.Fuzz(func(t *testing.T, name string, soft, hard int64) {
		b, err := Make(input(&spec.Service{Ulimits: map[string]spec.Ulimit{name: {Soft: soft, Hard: hard}}}))
		if err != nil {
			return
		}
		for i, r := range b.Spec.Process.Rlimits {
			if r.Soft > r.Hard || slices.IndexFunc(rlimits, func(k rlimit) bool { return k.name == r.Type }) < 0 {
				t.Errorf("limit %d is %+v", i, r)
			}
			for _, other := range b.Spec.Process.Rlimits[:i] {
				if other.Type == r.Type {
					t.Errorf("%s twice", r.Type)
				}
			}
		}
	})
}

func FuzzSignal(f *testing.F) {
	for _, s := range []string{"TERM", "SIGRTMIN+3", "0", "-9", "65", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if s, err := ParseSignal(name); err == nil && (s < 1 || s > 64) {
			t.Errorf("%q is signal %d", name, s)
		}
	})
}

func FuzzResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1 # x\nsearch a b\noptions ndots:2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := ParseResolv(text)
		if again := ParseResolv(r.Bytes()); fmt.Sprint(again) != fmt.Sprint(r) {
			t.Errorf("%v is written as %v", r, again)
		}
	})
}
