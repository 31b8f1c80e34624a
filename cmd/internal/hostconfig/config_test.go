package hostconfig

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stack-run/stack/spec"
)

func TestParseReadsEveryKey(t *testing.T) {
	got, err := Parse("config.yaml", []byte(`
registries:
  docker.io: {mirrors: [http://127.0.0.1:5000]}
  registry.example.com: {plainHTTP: true}
snapshotter: overlay
runtime: crun
runtimes:
  crun: {path: /usr/bin/crun, args: [--debug]}
addressPools: [{base: 10.210.1.0/16, size: 24}]
logs: {maxSize: 50m, maxFiles: 7}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Registries: map[string]Registry{
			"docker.io":            {Mirrors: []string{"http://127.0.0.1:5000"}},
			"registry.example.com": {PlainHTTP: true},
		},
		Snapshotter:  "overlay",
		Runtime:      "crun",
		Runtimes:     map[string]Runtime{"crun": {Path: "/usr/bin/crun", Args: []string{"--debug"}}},
		AddressPools: []AddressPool{{Base: netip.MustParsePrefix("10.210.0.0/16"), Size: 24}},
		Logs:         Logs{MaxSize: 50 << 20, MaxFiles: 7, Retain: DefaultLogs.Retain},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseRefusesWithPosition(t *testing.T) {
	for situation, c := range map[string]struct{ text, want string }{
		"an unknown key": {"snapshoter: overlay\n",
			"c.yaml:1:1: snapshoter: unknown key; did you mean snapshotter?"},
		"an unknown key below": {"logs:\n  size: 3\n",
			"c.yaml:2:3: logs.size: unknown key; known keys: maxFiles, maxSize, retain"},
		"two mistakes at once": {"snapshotter: zip\nlogs: {maxFiles: 0}\n",
			"c.yaml:1:14: snapshotter: no snapshotter is called \"zip\"; use one of overlay, native, btrfs, devmapper, zfs\n" +
				"c.yaml:2:18: logs.maxFiles: at least one file is needed; write a number from 1"},
		"a mirror without scheme": {"registries: {docker.io: {mirrors: [localhost]}}\n",
			"c.yaml:1:36: registries.docker.io.mirrors[0]: \"localhost\" is not the URL of a mirror; write it as http://host:port or https://host"},
		"a runtime that is not listed": {"runtime: kata\n",
			"c.yaml:1:1: runtime: runtime \"kata\" is not among the runtimes; add it below runtimes, or use embedded"},
		"a pool smaller than its subnets": {"addressPools: [{base: 10.0.0.0/24, size: 16}]\n",
			"c.yaml:1:16: addressPools[0]: no subnets of size 16 fit into 10.0.0.0/24; size is a prefix length from 24 to 30"},
		"a key twice": {"runtime: embedded\nruntime: embedded\n",
			"c.yaml:2:1: runtime: given twice; remove one of them"},
		"a list where a mapping belongs": {"logs: [1]\n", "c.yaml:1:7: logs: not a mapping; write it as key: value"},
		"malformed YAML": {"logs: {maxSize: 3\n",
			"c.yaml:1:1: did not find expected ',' or '}'"},
	} {
		t.Run(situation, func(t *testing.T) {
			_, err := Parse("c.yaml", []byte(c.text))
			var found spec.Diagnostics
			if !errors.As(err, &found) {
				t.Fatalf("error is %v, want diagnostics", err)
			}
			if got := found.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestLoadTakesTheDefaultsForAnEmptyFileOnly(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := Load(empty); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file that was asked for: error is %v", err)
	}
	if err := os.WriteFile(empty, []byte("# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(empty)
	if err != nil || !reflect.DeepEqual(got, Default()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("registries: {docker.io: {mirrors: [http://127.0.0.1:5000]}}\nlogs: {maxSize: 50m}")
	f.Add("a: &a [*a]\n")
	f.Add("addressPools: [{base: ::/0, size: -1}]")
	f.Add("logs: &l\nruntimes: *l")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("c.yaml", []byte(text))
		var found spec.Diagnostics
		if err != nil && (!errors.As(err, &found) || len(found) == 0) {
			t.Errorf("error is %v, want diagnostics", err)
		}
	})
}
