package image

import (
	"context"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// dockerKeychain finds credentials in docker's config.json: auths, credHelpers and credsStore. The file is read at every
// login, so that a `docker login` counts at once.
type dockerKeychain struct {
	dir string // empty is docker's own choice: $DOCKER_CONFIG, else ~/.docker
}

// Resolve implements authn.Keychain.
func (k dockerKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext looks for the repository's own entry, then for the registry's. Without one the registry is asked
// anonymously.
func (k dockerKeychain) ResolveContext(_ context.Context, target authn.Resource) (authn.Authenticator, error) {
	dir := k.dir
	if dir == "" {
		dir = config.Dir()
	}
	file, err := config.Load(dir)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		auth, err := file.GetAuthConfig(key)
		if err != nil {
			return nil, err
		}
		auth.ServerAddress = "" // filled in even where there is no entry
		if auth != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: auth.Username, Password: auth.Password, Auth: auth.Auth,
				IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
			}), nil
		}
	}
	return authn.Anonymous, nil
}
