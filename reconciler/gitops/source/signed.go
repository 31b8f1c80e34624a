package source

import (
	"bytes"
	"strings"
)

// TagIsOf tells whether a tag object is about the revision's commit, under the revision's name: a signature says nothing of
// where a server shows the object.
func TagIsOf(payload []byte, rev Revision) bool {
	return bytes.HasPrefix(payload, []byte("object "+rev.ID+"\ntype commit\ntag "+strings.TrimPrefix(rev.Ref, "refs/tags/")+"\n"))
}

// splitCommit takes a commit object apart: git signs all of it but the header with the signature.
func splitCommit(object []byte) (payload, signature []byte) {
	header, body, _ := bytes.Cut(object, []byte("\n\n"))
	var name []byte // of the header that a line belongs to
	for line := range bytes.Lines(append(header, '\n')) {
		value := line[1:]
		if line[0] != ' ' {
			name, value, _ = bytes.Cut(line, []byte(" "))
		}
		switch string(name) {
		case "gpgsig":
			signature = append(signature, value...)
		case "gpgsig-sha256": // of the same commit in the other format
		default:
			payload = append(payload, line...)
		}
	}
	return append(append(payload, '\n'), body...), signature
}

// splitTag takes a tag object apart: the signature follows the message.
func splitTag(object []byte) (payload, signature []byte) {
	for _, begin := range []string{"-----BEGIN PGP SIGNATURE-----", "-----BEGIN SSH SIGNATURE-----"} {
		if i := bytes.Index(object, []byte("\n"+begin)); i >= 0 {
			return object[:i+1], object[i+1:]
		}
	}
	return object, nil
}
