package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// certified serves nothing over TLS, with a certificate that signs itself. It returns its URL and the certificate's file.
func certified(t *testing.T, address net.IP, until time.Time) (url, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(until.Unix()), NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: until, IPAddresses: []net.IP{address},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return s.URL, file
}

func TestACertificateThatIsNotTrustedIsToldFromOtherFailures(t *testing.T) {
	here, never := net.IPv4(127, 0, 0, 1), time.Now().AddDate(1, 0, 0)
	good, ca := certified(t, here, never)
	elsewhere, otherCA := certified(t, net.IPv4(192, 0, 2, 1), never)
	old, oldCA := certified(t, here, time.Now().AddDate(0, 0, -1))
	for situation, c := range map[string]struct{ url, ca, want string }{
		"nobody's":        {good, "", "this host does not know who signed it; name the file with that authority's certificate (auth.caFile, or --ca-file)"},
		"another's":       {good, otherCA, "it is not signed by an authority of auth.caFile, " + otherCA},
		"of another":      {elsewhere, otherCA, "certificate is valid for 192.0.2.1, not 127.0.0.1; write the URL with a name that it is for"},
		"expired":         {old, oldCA, "has expired"},
		"no authority":    {good, "/etc/hostname", "auth.caFile: /etc/hostname holds no certificate in PEM"},
		"no file":         {good, "/nowhere", "auth.caFile: open /nowhere: no such file"},
		"good, but a 404": {good, ca, ""},
	} {
		g := NewGit(filepath.Join(t.TempDir(), "git"), declare.Repository{URL: c.url + "/a.git", Auth: declare.Auth{CAFile: c.ca}}.WithDefaults())
		_, err := g.Resolve(t.Context())
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCertificate) != (c.want != "") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", situation, err)
		}
	}
}
