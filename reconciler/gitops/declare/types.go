// Package declare is what a user says about the repositories that stacks are kept in: the types, the declared file
// (/etc/stack/gitops.yaml) and what is checked of it. It is plain data, for the command as well as for the daemon.
package declare

import (
	"fmt"
	"time"
)

// File is the declared file: all that a fresh server needs.
type File struct {
	// Labels of this host. Overrides of repositories ask for them.
	Labels map[string]string `yaml:"labels"`
	// Listen is the address for webhooks and metrics; without one only the control socket answers.
	Listen string `yaml:"listen"`
	// AgeKeys are files with age identities, which decrypt what SOPS encrypted for them.
	AgeKeys      []string              `yaml:"ageKeys"`
	Notify       []Notify              `yaml:"notify"`
	Repositories map[string]Repository `yaml:"repositories"`
}

// Repository is one source of stacks. Its JSON form is what the command adds, and what the daemon keeps of that.
type Repository struct {
	Name string `json:"name" yaml:"-"`
	// URL is https, http, ssh, git or file, or oci for an artifact in a registry.
	URL string `json:"url" yaml:"url"`
	Ref Ref    `json:"ref" yaml:"ref"`
	// Path is a folder with a stack file, a stack file, or a pattern of stack files such as **/compose.yaml.
	Path string `json:"path,omitempty" yaml:"path"`
	// Sparse are the only folders and files that are fetched, beside Path; empty is all.
	Sparse   []string `json:"sparse,omitempty" yaml:"sparse"`
	Interval Duration `json:"interval,omitempty" yaml:"interval"`
	// Timeout bounds everything that asks the server.
	Timeout Duration `json:"timeout,omitempty" yaml:"timeout"`
	// MaxSize bounds what is fetched, and what is checked out, in bytes.
	MaxSize int64  `json:"max_size,omitempty" yaml:"maxSize"`
	Auth    Auth   `json:"auth,omitzero" yaml:"auth"`
	Verify  Verify `json:"verify,omitzero" yaml:"verify"`
	// AllowRewrite takes a branch that was force-pushed or moved backwards.
	AllowRewrite bool     `json:"allow_rewrite,omitempty" yaml:"allowRewrite"`
	Profiles     []string `json:"profiles,omitempty" yaml:"profiles"`
	EnvFiles     []string `json:"env_files,omitempty" yaml:"envFiles"`
	// HostFiles are folders and files of the host that stack files may read from: env_file, secrets, configs, include.
	HostFiles []string   `json:"host_files,omitempty" yaml:"hostFiles"`
	Overrides []Override `json:"overrides,omitempty" yaml:"overrides"`
	// Prune takes down stacks and services that left the repository; nil is yes. Volumes stay unless PruneVolumes.
	Prune        *bool `json:"prune,omitempty" yaml:"prune"`
	PruneVolumes bool  `json:"prune_volumes,omitempty" yaml:"pruneVolumes"`
	// WaitTimeout is how long an applied revision may take to become healthy.
	WaitTimeout Duration `json:"wait_timeout,omitempty" yaml:"waitTimeout"`
	// OnFailure is what becomes of a revision that could not be applied: hold or rollback.
	OnFailure string `json:"on_failure,omitempty" yaml:"onFailure"`
	// DependsOn are repositories that have to be converged first.
	DependsOn []string `json:"depends_on,omitempty" yaml:"dependsOn"`
	Suspend   bool     `json:"suspend,omitempty" yaml:"suspend"`
	Webhook   Webhook  `json:"webhook,omitzero" yaml:"webhook"`
	// Report tells the server what became of a commit.
	Report Report `json:"report,omitzero" yaml:"report"`
}

// Ref is what is followed: exactly one field is set.
type Ref struct {
	Branch string `json:"branch,omitempty" yaml:"branch"`
	Tag    string `json:"tag,omitempty" yaml:"tag"`
	// SemVer is a range, such as ">=1.2 <2": the highest tag within it counts.
	SemVer string `json:"semver,omitempty" yaml:"semver"`
	Commit string `json:"commit,omitempty" yaml:"commit"`
}

func (r Ref) String() string {
	switch {
	case r.Branch != "":
		return r.Branch
	case r.Tag != "":
		return "tag=" + r.Tag
	case r.SemVer != "":
		return "semver=" + r.SemVer
	case r.Commit != "":
		return "commit=" + r.Commit
	}
	return "HEAD"
}

// Auth names files with credentials, so that none stands where the rest does.
type Auth struct {
	TokenFile    string `json:"token_file,omitempty" yaml:"tokenFile"`
	Username     string `json:"username,omitempty" yaml:"username"`
	PasswordFile string `json:"password_file,omitempty" yaml:"passwordFile"`
	SSHKey       string `json:"ssh_key,omitempty" yaml:"sshKey"`
	KnownHosts   string `json:"known_hosts,omitempty" yaml:"knownHosts"`
	CAFile       string `json:"ca_file,omitempty" yaml:"caFile"`
}

// Verify asks for signatures. Any of the keys will do.
type Verify struct {
	OpenPGP []string `json:"openpgp,omitempty" yaml:"openpgp"` // files with public keys
	// AllowedSigners is a file as ssh-keygen has it.
	AllowedSigners string `json:"allowed_signers,omitempty" yaml:"allowedSigners"`
	// Tag asks for the tag's signature instead of the commit's.
	Tag bool `json:"tag,omitempty" yaml:"tag"`
}

// Required tells whether signatures are asked for.
func (v Verify) Required() bool { return len(v.OpenPGP) > 0 || v.AllowedSigners != "" }

// Override changes what applies on hosts with all the labels of When. Later ones go on from earlier ones.
type Override struct {
	When     map[string]string `json:"when" yaml:"when"`
	Path     string            `json:"path,omitempty" yaml:"path"`
	Skip     []string          `json:"skip,omitempty" yaml:"skip"` // patterns of stack files
	Profiles []string          `json:"profiles,omitempty" yaml:"profiles"`
	EnvFiles []string          `json:"env_files,omitempty" yaml:"envFiles"`
}

// Webhook lets the server say that there is something new.
type Webhook struct {
	SecretFile string `json:"secret_file,omitempty" yaml:"secretFile"`
}

// Report is a server's API for commit statuses.
type Report struct {
	Provider  string `json:"provider,omitempty" yaml:"provider"` // github, gitlab, gitea
	URL       string `json:"url,omitempty" yaml:"url"`           // of the repository's API
	TokenFile string `json:"token_file,omitempty" yaml:"tokenFile"`
	Context   string `json:"context,omitempty" yaml:"context"` // what the status is called; stack/<host> without one
}

// Notify is a receiver of what happens.
type Notify struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
	// URLFile has the URL where that is a secret itself, as Slack's are.
	URLFile   string   `yaml:"urlFile"`
	TokenFile string   `yaml:"tokenFile"`
	Format    string   `yaml:"format"` // json, slack, ntfy
	On        []string `yaml:"on"`     // applied, failed, recovered; empty is all
	// Repositories that it is about; empty is all.
	Repositories []string `yaml:"repositories"`
	// Repeat is when a state that goes on is told again; 0 is never.
	Repeat Duration `yaml:"repeat"`
}

// Values that hold where nothing is said.
const (
	DefaultInterval    = Duration(time.Minute)
	DefaultTimeout     = Duration(time.Minute)
	DefaultWaitTimeout = Duration(5 * time.Minute)
	DefaultMaxSize     = 256 << 20
	Hold               = "hold"
	Rollback           = "rollback"
)

// WithDefaults is the repository with every field that has a default filled in.
func (r Repository) WithDefaults() Repository {
	if r.Interval == 0 {
		r.Interval = DefaultInterval
	}
	if r.Timeout == 0 {
		r.Timeout = DefaultTimeout
	}
	if r.WaitTimeout == 0 {
		r.WaitTimeout = DefaultWaitTimeout
	}
	if r.MaxSize == 0 {
		r.MaxSize = DefaultMaxSize
	}
	if r.OnFailure == "" {
		r.OnFailure = Hold
	}
	if r.Path == "" {
		r.Path = "."
	}
	return r
}

// Prunes tells whether what left the repository is taken down.
func (r Repository) Prunes() bool { return r.Prune == nil || *r.Prune }

// Duration is written as 90s or 5m.
type Duration time.Duration

// MarshalText writes it as it is read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	if err != nil || value < 0 {
		return fmt.Errorf("%q is not a duration; write it as 90s or 5m", text)
	}
	*d = Duration(value)
	return nil
}
