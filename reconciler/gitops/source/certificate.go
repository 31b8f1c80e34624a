package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// ErrCertificate: the server is not shown to be the one that was meant.
var ErrCertificate = errors.New("the server's certificate is not trusted")

// lookAtCertificate bounds what is asked of a server that failed already.
const lookAtCertificate = 5 * time.Second

// certificate tells what is wrong with an https server's certificate, nil when that is not what git failed of: its own exit
// code does not tell, and its texts change.
func (g *Git) certificate() error {
	if !strings.HasPrefix(g.URL, "https:") {
		return nil
	}
	var trusted *x509.CertPool // nil is the host's
	if file := g.Auth.CAFile; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("%w: auth.caFile: %w", ErrCertificate, err)
		}
		if trusted = x509.NewCertPool(); !trusted.AppendCertsFromPEM(text) {
			return fmt.Errorf("%w: auth.caFile: %s holds no certificate in PEM", ErrCertificate, file)
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
	}
	client := &http.Client{
		Transport: transport, Timeout: lookAtCertificate,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Head(g.origin())
	if err == nil {
		return resp.Body.Close()
	}
	var (
		stranger x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &stranger) && g.Auth.CAFile != "":
		return fmt.Errorf("%w: it is not signed by an authority of auth.caFile, %s", ErrCertificate, g.Auth.CAFile)
	case errors.As(err, &stranger):
		return fmt.Errorf("%w: this host does not know who signed it; name the file with that authority's certificate (auth.caFile, or --ca-file)", ErrCertificate)
	case errors.As(err, &name):
		return fmt.Errorf("%w: %w; write the URL with a name that it is for", ErrCertificate, name)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: %w; have it renewed, and look at this host's clock", ErrCertificate, invalid)
	}
	return nil
}
