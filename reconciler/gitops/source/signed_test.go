package source

import (
	"errors"
	"testing"
)

func TestATagIsOfItsCommitAndItsName(t *testing.T) {
	payload := []byte("object 1234\ntype commit\ntag v1.0\ntagger Ada <a@b> 1 +0000\n\nfirst\n")
	for situation, c := range map[string]struct {
		rev  Revision
		want bool
	}{
		"its own":                        {Revision{ID: "1234", Ref: "refs/tags/v1.0"}, true},
		"shown beside another commit":    {Revision{ID: "6666", Ref: "refs/tags/v1.0"}, false},
		"an old one under a newer name":  {Revision{ID: "1234", Ref: "refs/tags/v9.9"}, false},
		"of which the name is the start": {Revision{ID: "1234", Ref: "refs/tags/v1"}, false},
	} {
		if got := TagIsOf(payload, c.rev); got != c.want {
			t.Errorf("%s: %t", situation, got)
		}
	}
}

func TestWhatGitAnswersIsBounded(t *testing.T) {
	a := &answer{text: make([]byte, maxAnswer-1)}
	if _, err := a.Write([]byte("a")); err != nil {
		t.Error(err)
	}
	if _, err := a.Write([]byte("b")); !errors.Is(err, ErrTooLarge) || !a.over {
		t.Errorf("beyond the bound: %v", err)
	}
}
