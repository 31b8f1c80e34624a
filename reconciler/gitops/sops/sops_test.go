package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// The files in testdata/encrypted and testdata/partly were made by SOPS 3.13.3 from those in testdata/plain:
//
//	sops encrypt --age STRANGER,KEY [--input-type binary --output-type json] plain/FILE

func keys(t *testing.T) Keys {
	t.Helper()
	k, err := LoadKeys([]string{"testdata/key.txt"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWhatSOPSEncryptedIsDecrypted(t *testing.T) {
	for _, c := range []struct {
		encrypted, plain string
		same             func(a, b []byte) bool
	}{
		{"encrypted/password.txt", "password.txt", bytes.Equal}, {"encrypted/secret.bin", "secret.bin", bytes.Equal},
		{"encrypted/db.env", "db.env", func(a, b []byte) bool { return "# the database\n"+string(a) == string(b) }},
		{"encrypted/app.yaml", "app.yaml", sameYAML}, {"encrypted/app.json", "app.json", sameJSON},
		{"partly/some.yaml", "app.yaml", sameYAML}, {"partly/mac-only.yaml", "app.yaml", sameYAML},
	} {
		data := file(t, c.encrypted)
		if !Encrypted(c.encrypted, data) {
			t.Errorf("%s: not seen as encrypted", c.encrypted)
		}
		got, err := keys(t).Decrypt(c.encrypted, data)
		if err != nil {
			t.Errorf("%s: %v", c.encrypted, err)
		} else if !c.same(got.Content, file(t, "plain/"+c.plain)) {
			t.Errorf("%s: decrypted to %q", c.encrypted, got.Content)
		}
		if plain := file(t, "plain/"+c.plain); Encrypted(c.plain, plain) {
			t.Errorf("%s: seen as encrypted", c.plain)
		}
	}
}

func sameYAML(a, b []byte) bool {
	var x, y any
	return yaml.Unmarshal(a, &x) == nil && yaml.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// sameJSON compares the order of keys, too.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, bytes.ReplaceAll(b, []byte("<&>"), []byte(`\u003c\u0026\u003e`))) == nil && x.String() == y.String()
}

func TestADotenvFileTellsWhatEachValueStandsFor(t *testing.T) {
	data := file(t, "encrypted/db.env")
	got, err := keys(t).Decrypt("secrets", data) // whatever its name is
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		want := map[string]string{"DB_PASSWORD": "open sesame=1", "PORT": "5432"}[name]
		if want != "" && got.Values[value] != want {
			t.Errorf("%s is %q, want %q", name, got.Values[value], want)
		}
	}
	if len(got.Metadata) < 4 {
		t.Errorf("metadata %v", got.Metadata)
	}
}

func TestWhatCantBeDecryptedIsToldApart(t *testing.T) {
	yaml, env := string(file(t, "encrypted/app.yaml")), string(file(t, "encrypted/db.env"))
	cut := func(text, from, to string) string {
		_, rest, _ := strings.Cut(text, from)
		value, _, _ := strings.Cut(rest, to)
		return value
	}
	password, port := cut(env, "DB_PASSWORD=", "\n"), cut(env, "PORT=", "\n")
	none := Keys(nil)
	for _, c := range []struct {
		situation, name, text string
		keys                  Keys
		err                   error
	}{
		{"for a stranger", "a.txt", string(file(t, "partly/strangers.txt")), keys(t), ErrKey},
		{"without keys", "a.yaml", yaml, none, ErrKey},
		{"an ini file", "a.ini", "[a]\nsops_mac=x", keys(t), ErrFormat},
		{"not encrypted", "a.yaml", "a: 1\n", keys(t), ErrFormat},
		{"two values that changed places", "a.env", strings.NewReplacer(password, port, port, password).Replace(env), keys(t), ErrTampered},
		{"a value replaced by a plain one", "a.env", strings.Replace(env, password, "hunter2", 1), keys(t), ErrTampered},
		{"a value taken out", "a.env", strings.Replace(env, "PORT="+port+"\n", "", 1), keys(t), ErrTampered},
		{"a value added", "a.env", "MORE=x\n" + env, keys(t), ErrTampered},
		{"a bit changed", "a.env", strings.Replace(env, password, strings.Replace(password, "data:", "data:A", 1), 1), keys(t), ErrTampered},
		{"an unencrypted value changed", "a.yaml", strings.Replace(string(file(t, "partly/some.yaml")), "0.25", "0.75", 1), keys(t), ErrTampered},
		{"another time of change", "a.env", strings.Replace(env, "sops_lastmodified=2", "sops_lastmodified=1", 1), keys(t), ErrTampered},
		{"keys of other kinds alone", "a.yaml", "a: ENC[AES256_GCM,x]\nsops: {mac: m, pgp: [{fp: x}]}\n", keys(t), ErrFormat},
	} {
		if c.text == "" || c.text == env || c.text == yaml && c.keys != nil {
			t.Fatalf("%s: the situation is not one", c.situation)
		}
		got, err := c.keys.Decrypt(c.name, []byte(c.text))
		if !errors.Is(err, c.err) || got != nil && len(got.Content) > 0 {
			t.Errorf("%s: error %v", c.situation, err)
		}
		if err != nil && (strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: the message gives a value away: %v", c.situation, err)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	for _, name := range []string{"encrypted/app.yaml", "encrypted/db.env", "encrypted/app.json", "encrypted/password.txt"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if got, err := (Keys)(nil).Decrypt(name, data); err == nil {
			t.Errorf("decrypted without a key to %q", got.Content)
		}
	})
}
