package source

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// credentials are read anew for every use, so that a rotated token needs no restart.
type credentials struct{ declare.Auth }

func (c credentials) secret() (user, secret string, err error) {
	file, user := c.TokenFile, c.Username
	if file == "" {
		file = c.PasswordFile
	} else if user == "" {
		user = "x-access-token" // what GitHub calls it; the others take any name
	}
	if file == "" {
		return "", "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("credentials: %w", err)
	}
	return user, strings.TrimSpace(string(text)), nil
}

// header is the HTTP header that carries the credentials, empty without any.
func (c credentials) header() (string, error) {
	user, secret, err := c.secret()
	if err != nil || secret == "" {
		return "", err
	}
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret)), nil
}

// redact takes the credentials out of a text.
func (g *Git) redact(text string) string {
	user, secret, err := g.Auth.secret()
	if err != nil || secret == "" {
		return text
	}
	for _, hide := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))} {
		text = strings.ReplaceAll(text, hide, "***")
	}
	return text
}

// origin is scheme and host of the URL.
func (g *Git) origin() string {
	u, err := url.Parse(g.URL)
	if err != nil {
		return g.URL
	}
	return u.Scheme + "://" + u.Host + "/"
}
