// Package webhook checks what servers send when something was pushed: GitHub, GitLab, and Gitea or Forgejo.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ErrForged means that whoever sent it does not know the secret.
var ErrForged = errors.New("no good signature")

// MaxBody is the largest payload that GitHub sends.
const MaxBody = 25 << 20

// Verify reads the body, which it keeps nothing of, and checks that it comes from who knows the secret.
func Verify(header http.Header, body io.Reader, secret []byte) error {
	if len(secret) == 0 {
		return fmt.Errorf("%w: no secret is set", ErrForged)
	}
	if token := header.Get("X-Gitlab-Token"); token != "" {
		if subtle.ConstantTimeCompare([]byte(token), secret) != 1 {
			return ErrForged
		}
		return nil
	}
	signature := ""
	for _, name := range []string{"X-Hub-Signature-256", "X-Forgejo-Signature", "X-Gitea-Signature"} {
		if signature = strings.TrimPrefix(header.Get(name), "sha256="); signature != "" {
			break
		}
	}
	given, err := hex.DecodeString(signature)
	if err != nil || len(given) != sha256.Size {
		return ErrForged
	}
	mac := hmac.New(sha256.New, secret)
	if _, err := io.Copy(mac, body); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	if !hmac.Equal(given, mac.Sum(nil)) {
		return ErrForged
	}
	return nil
}
