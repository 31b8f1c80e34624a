package tmpfs

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/drivertest"
)

func request(m spec.Mount) voldriver.Request {
	m.Type, m.Target = spec.MountTmpfs, "/t"
	return voldriver.Request{Mount: m}
}

func TestDriver(t *testing.T) {
	hardened := func(t *testing.T, target string) {
		flags(t, target, unix.ST_NOEXEC|unix.ST_NOSUID|unix.ST_NODEV)
	}
	drivertest.Run(t, Driver{}, []drivertest.Case{
		{Name: "plain", Request: request(spec.Mount{}), Look: hardened},
		{Name: "read-only", Request: request(spec.Mount{ReadOnly: true})},
		{Name: "size and mode", Request: request(spec.Mount{Size: 1 << 20, Mode: 0o1700}), Look: func(t *testing.T, target string) {
			var fs unix.Statfs_t
			if err := unix.Statfs(target, &fs); err != nil || int64(fs.Blocks)*fs.Bsize != 1<<20 {
				t.Errorf("%d blocks of %d, %v", fs.Blocks, fs.Bsize, err)
			}
			if st, _ := os.Stat(target); st.Mode().Perm() != 0o700 || st.Mode()&os.ModeSticky == 0 {
				t.Errorf("mode %v", st.Mode())
			}
		}},
		{Name: "the short form takes hardening back", Request: request(spec.Mount{Options: []string{"exec", "uid=5", "size=64k"}}), Look: func(t *testing.T, target string) {
			flags(t, target, unix.ST_NOSUID|unix.ST_NODEV)
		}},
	})
}

func flags(t *testing.T, target string, want int64) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(target, &fs); err != nil {
		t.Fatal(err)
	}
	const looked = unix.ST_NOEXEC | unix.ST_NOSUID | unix.ST_NODEV
	if int64(fs.Flags)&looked != want {
		t.Errorf("flags %#x, want %#x", fs.Flags&looked, want)
	}
}

func TestTheLastOptionCounts(t *testing.T) {
	for options, want := range map[string]string{
		"":                      "noexec,nosuid,nodev,rprivate",
		"exec,noexec":           "nosuid,nodev,rprivate,noexec",
		"size=1m,size=2m":       "noexec,nosuid,nodev,rprivate,size=2m",
		"rw":                    "noexec,nosuid,nodev,rprivate,rw",
		"ro,rw":                 "noexec,nosuid,nodev,rprivate,rw",
		"rslave,mode=1777,suid": "noexec,nodev,rslave,mode=1777,suid",
	} {
		m := spec.Mount{}
		if options != "" {
			m.Options = strings.Split(options, ",")
		}
		got, err := Driver{}.Prepare(context.Background(), request(m))
		if err != nil || strings.Join(got.Options, ",") != want {
			t.Errorf("%s: got %s, want %s (%v)", options, strings.Join(got.Options, ","), want, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, m := range map[string]spec.Mount{
		"a source":           {Source: "/x"},
		"an unknown option":  {Options: []string{"lazytime"}},
		"a bad size":         {Options: []string{"size=big"}},
		"a bad mode":         {Options: []string{"mode=rwx"}},
		"an option injected": {Options: []string{"size=1m,exec"}},
		"an empty option":    {Options: []string{""}},
	} {
		if err := (Driver{}).Check(request(m).Mount); !errors.Is(err, voldriver.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOption(f *testing.F) {
	for _, o := range []string{"ro", "size=1m", "mode=1777", "mpol=bind:0-1", "huge=always", "x=y", "uid=0"} {
		f.Add(o)
	}
	f.Fuzz(func(t *testing.T, option string) {
		if !known(option) {
			return
		}
		if strings.ContainsAny(option, "\x00 \n\\") || option == "" {
			t.Errorf("%q is accepted", option)
		}
		if once := add(nil, option); len(add(once, option)) != 1 {
			t.Errorf("%q is there twice", option)
		}
	})
}
