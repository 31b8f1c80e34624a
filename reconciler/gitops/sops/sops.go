// Package sops decrypts files that SOPS encrypted for age keys, in memory.
//
// It reads the format rather than linking SOPS, which brings the clients of five clouds: its own program has 75 MB.
// YAML, JSON, dotenv and binary files are known; whatever else, and keys other than age's, is refused by name.
package sops

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Errors of decryption.
var (
	// ErrKey: none of the keys is one that it was encrypted for.
	ErrKey = errors.New("none of this host's age keys can decrypt it")
	// ErrTampered: what is in the file is not what was encrypted.
	ErrTampered = errors.New("it was changed after it was encrypted")
	// ErrFormat: it is not a file of SOPS, or of a kind that is not known.
	ErrFormat = errors.New("its format is not supported")
)

// Keys are age identities.
type Keys []age.Identity

// LoadKeys reads files with identities.
func LoadKeys(files []string) (Keys, error) {
	var keys Keys
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("age keys: %w", err)
		}
		found, err := age.ParseIdentities(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("age keys: %s: %w", file, err)
		}
		keys = append(keys, found...)
	}
	return keys, nil
}

// File is one that was decrypted.
type File struct {
	Content []byte
	// Values are the plain texts by what stood for each in the file.
	Values map[string]string
	// Metadata are the variables of a dotenv file that are SOPS's own.
	Metadata []string
}

// metadata is what SOPS notes beside the values.
type metadata struct {
	lastModified     string
	mac              string
	macOnlyEncrypted bool
	age              []string // armored data keys
	others           bool     // keys of other kinds
}

// leaf is one value of the file, in its order.
type leaf struct {
	path  []string
	value any // string, int, float64, bool
	set   func(plain any)
}

// document is a parsed file.
type document struct {
	meta   metadata
	leaves []leaf
	render func() ([]byte, error)
	names  []string // of metadata, in dotenv files
}

func parse(name string, data []byte) (*document, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml":
		return parseYAML(data, renderYAML)
	case ".json":
		return parseYAML(data, renderJSON)
	case ".env":
		return parseDotenv(data)
	case ".ini":
		return nil, fmt.Errorf("%w: .ini", ErrFormat)
	}
	return parseYAML(data, renderBinary)
}

// Encrypted tells whether a file is SOPS's.
func Encrypted(name string, data []byte) bool {
	if !bytes.Contains(data, []byte("sops")) || !bytes.Contains(data, []byte("ENC[AES256_GCM,")) {
		return false
	}
	d, err := parse(name, data)
	if err != nil && filepath.Ext(name) != ".env" {
		d, err = parseDotenv(data) // env files have any name
	}
	return err == nil && d.meta.mac != ""
}

// Decrypt decrypts a file, whose name tells its format.
func (k Keys) Decrypt(name string, data []byte) (*File, error) {
	d, err := parse(name, data)
	if (err != nil || d.meta.mac == "") && bytes.Contains(data, []byte("sops_mac=")) {
		d, err = parseDotenv(data)
	}
	if err != nil {
		return nil, err
	}
	if d.meta.mac == "" {
		return nil, fmt.Errorf("%w: it is not encrypted", ErrFormat)
	}
	key, err := k.dataKey(d.meta)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, nonceSize)
	if err != nil {
		return nil, err
	}
	file := &File{Values: map[string]string{}, Metadata: d.names}
	hash := sha512.New()
	if d.meta.macOnlyEncrypted { // so that it is no MAC of the other kind
		begin := sha256.Sum256([]byte("sops"))
		hash.Write(begin[:])
	}
	for _, l := range d.leaves {
		text, isText := l.value.(string)
		if !isText || !strings.HasPrefix(text, prefix) {
			if !d.meta.macOnlyEncrypted {
				io.WriteString(hash, plainText(l.value))
			}
			continue
		}
		plain, err := open(gcm, text, strings.Join(l.path, ":")+":")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(l.path, "."), err)
		}
		io.WriteString(hash, plainText(plain))
		file.Values[text] = plainText(plain)
		l.set(plain)
	}
	mac, err := open(gcm, d.meta.mac, d.meta.lastModified)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(plainText(mac)), fmt.Appendf(nil, "%X", hash.Sum(nil))) != 1 {
		return nil, fmt.Errorf("%w: its values don't add up to what was signed", ErrTampered)
	}
	file.Content, err = d.render()
	return file, err
}

// dataKey decrypts the key that the values are encrypted with.
func (k Keys) dataKey(m metadata) ([]byte, error) {
	if len(m.age) == 0 {
		if m.others {
			return nil, fmt.Errorf("%w: it is encrypted for keys other than age's only", ErrFormat)
		}
		return nil, fmt.Errorf("%w: it names no keys", ErrFormat)
	}
	if len(k) == 0 {
		return nil, fmt.Errorf("%w: there are none; name them under ageKeys", ErrKey)
	}
	for _, enc := range m.age {
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(enc)), k...)
		if err != nil {
			continue
		}
		if key, err := io.ReadAll(r); err == nil {
			return key, nil
		}
	}
	return nil, ErrKey
}

const (
	prefix    = "ENC[AES256_GCM,"
	nonceSize = 32
)

var encrypted = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:(str|int|float|bytes|bool)\]$`)

// open decrypts one value. What it belongs to is authenticated with it, so that values can't change places.
func open(gcm cipher.AEAD, text, belongs string) (any, error) {
	m := encrypted.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("%w: an encrypted value is malformed", ErrTampered)
	}
	var parts [3][]byte
	for i := range parts {
		var err error
		if parts[i], err = base64.StdEncoding.DecodeString(m[i+1]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTampered, err)
		}
	}
	data, iv, tag := parts[0], parts[1], parts[2]
	if len(iv) != nonceSize {
		return nil, fmt.Errorf("%w: an encrypted value is malformed", ErrTampered)
	}
	plain, err := gcm.Open(nil, iv, append(data, tag...), []byte(belongs))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	switch m[4] {
	case "int":
		return strconv.Atoi(string(plain))
	case "float":
		return strconv.ParseFloat(string(plain), 64)
	case "bool":
		return strconv.ParseBool(string(plain))
	}
	return string(plain), nil
}

// plainText is a value as SOPS adds it up.
func plainText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		if v {
			return "True"
		}
		return "False"
	case time.Time:
		return v.Format(time.RFC3339)
	}
	return fmt.Sprint(v)
}
