// Package trust checks who signed a commit or a tag: OpenPGP keys, and SSH keys of a file of allowed signers.
//
// Libraries do it rather than the git program: that one would need gpg, with a keyring and an agent, on every server.
package trust

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/hiddeco/sshsig"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// Errors of a check.
var (
	// ErrUnsigned: there is no signature.
	ErrUnsigned = errors.New("it is not signed")
	// ErrSignature: there is one that none of the keys made, or that is about something else.
	ErrSignature = errors.New("the signature is not good")
)

// Keys are those whose signatures count.
type Keys struct {
	pgp openpgp.EntityList
	ssh []signer
}

// Load reads the files with keys.
func Load(v declare.Verify) (*Keys, error) {
	k := &Keys{}
	for _, file := range v.OpenPGP {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
		if err != nil {
			list, err = openpgp.ReadKeyRing(bytes.NewReader(data))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: no OpenPGP keys: %w", file, err)
		}
		k.pgp = append(k.pgp, list...)
	}
	if v.AllowedSigners != "" {
		data, err := os.ReadFile(v.AllowedSigners)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		if k.ssh, err = parseSigners(data); err != nil {
			return nil, fmt.Errorf("%s:%w", v.AllowedSigners, err)
		}
	}
	return k, nil
}

// gitNamespace is what git signs within, so that a signature made for something else does not count.
const gitNamespace = "git"

// Check tells who signed the payload. Keys count by their validity now, not at the time that a commit claims.
func (k *Keys) Check(payload, signature []byte, now time.Time) (by string, err error) {
	switch {
	case len(bytes.TrimSpace(signature)) == 0:
		return "", ErrUnsigned
	case bytes.HasPrefix(signature, []byte("-----BEGIN SSH SIGNATURE-----")):
		return k.checkSSH(payload, signature, now)
	case bytes.HasPrefix(signature, []byte("-----BEGIN PGP SIGNATURE-----")):
		entity, err := openpgp.CheckArmoredDetachedSignature(k.pgp, bytes.NewReader(payload), bytes.NewReader(signature), nil)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrSignature, err)
		}
		for name := range entity.Identities {
			by = name
		}
		return fmt.Sprintf("%s (%X)", by, entity.PrimaryKey.KeyId), nil
	}
	return "", fmt.Errorf("%w: it is neither of OpenPGP nor of SSH", ErrSignature)
}

func (k *Keys) checkSSH(payload, signature []byte, now time.Time) (string, error) {
	sig, err := sshsig.Unarmor(signature)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	made := sig.PublicKey.Marshal()
	for _, s := range k.ssh {
		if !bytes.Equal(s.key.Marshal(), made) {
			continue
		}
		if err := s.valid(now); err != nil {
			return "", fmt.Errorf("%w: the key of %s: %w", ErrSignature, s.principals, err)
		}
		if err := sshsig.Verify(bytes.NewReader(payload), sig, s.key, sig.HashAlgorithm, gitNamespace); err != nil {
			return "", fmt.Errorf("%w: %w", ErrSignature, err)
		}
		return s.principals, nil
	}
	return "", fmt.Errorf("%w: its key is not among the allowed signers", ErrSignature)
}
