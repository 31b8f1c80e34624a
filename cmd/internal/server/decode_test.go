package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/stack-run/stack/cmd/internal/api"
)

func FuzzDecode(f *testing.F) {
	f.Add(`{"stack":{"name":"demo","services":{"web":{"name":"web","replicas":1}}},"options":{"Scale":{"web":2}}}`)
	f.Add(`{"args":["sh"],"tty":true,"rows":24}`)
	f.Add(`{"services":["a"],"timeout":-1}`)
	f.Fuzz(func(t *testing.T, body string) {
		check := func(err error) {
			var e *api.Error
			if err != nil && (!errors.As(err, &e) || e.Code != api.Invalid) {
				t.Errorf("error is %v", err)
			}
		}
		_, err := decodeFrom[api.UpRequest](strings.NewReader(body))
		check(err)
		_, err = decodeFrom[api.OpRequest](strings.NewReader(body))
		check(err)
		_, err = decodeFrom[api.RunRequest](strings.NewReader(body))
		check(err)
		_, err = decodeFrom[api.ExecRequest](strings.NewReader(body))
		check(err)
		_, err = decodeFrom[api.LogRequest](strings.NewReader(body))
		check(err)
	})
}
