package trust

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// signer is a line of a file of allowed signers, as ssh-keygen(1) describes it.
type signer struct {
	principals    string
	key           ssh.PublicKey
	namespaces    []string // patterns; empty is all
	after, before time.Time
}

func (s signer) valid(now time.Time) error {
	if len(s.namespaces) > 0 && !slices.ContainsFunc(s.namespaces, func(pattern string) bool {
		ok, _ := path.Match(pattern, gitNamespace)
		return ok
	}) {
		return fmt.Errorf("it is not for %s", gitNamespace)
	}
	if !s.after.IsZero() && now.Before(s.after) {
		return fmt.Errorf("it is valid from %s", s.after.Format(time.RFC3339))
	}
	if !s.before.IsZero() && !now.Before(s.before) {
		return fmt.Errorf("it was valid until %s", s.before.Format(time.RFC3339))
	}
	return nil
}

var errLine = errors.New("not a line of allowed signers")

// parseSigners reads the file. The error begins with the line's number.
func parseSigners(data []byte) ([]signer, error) {
	var signers []signer
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		signers = append(signers, s)
	}
	return signers, nil
}

func parseSigner(line string) (s signer, err error) {
	rest := ""
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		s.principals, rest, _ = strings.Cut(quoted, `"`)
	} else if i := strings.IndexAny(line, " \t"); i > 0 {
		s.principals, rest = line[:i], line[i:]
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(rest)))
	if err != nil {
		return s, fmt.Errorf("%w: %w", errLine, err)
	}
	s.key = key
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.after, err = parseTime(value)
		case "valid-before":
			s.before, err = parseTime(value)
		case "cert-authority":
			err = errors.New("certificates are not supported; list the keys themselves")
		default:
			err = fmt.Errorf("unknown option %q", name)
		}
		if err != nil {
			return s, fmt.Errorf("%w: %w", errLine, err)
		}
	}
	return s, nil
}

// parseTime reads YYYYMMDD[HHMM[SS]], of this host's zone unless a Z follows.
func parseTime(text string) (time.Time, error) {
	digits, utc := strings.CutSuffix(text, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			return time.ParseInLocation(layout, digits, zone)
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time", text)
}
