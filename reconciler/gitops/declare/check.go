package declare

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"

	"github.com/stack-run/stack/spec"
)

// Problem is one thing that is wrong with a repository: the field's path as the file has it.
type Problem struct {
	Path, Summary, Remedy string
}

func (p Problem) Error() string {
	text := p.Summary
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Remedy != "" {
		text += "; " + p.Remedy
	}
	return text
}

// Problems are all that is wrong.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (ps *Problems) add(path, remedy, format string, args ...any) {
	*ps = append(*ps, Problem{Path: path, Summary: fmt.Sprintf(format, args...), Remedy: remedy})
}

var digestID = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Check finds what can't work, without looking at anything but the words.
func (r Repository) Check() Problems {
	var ps Problems
	if good := spec.NormalizeName(r.Name); good != r.Name || r.Name == "" {
		ps.add("", fmt.Sprintf("%q would do", good), "%q can't be the name of a repository: lower-case letters, digits, dashes and underscores make one", r.Name)
	}
	r.checkURL(&ps)
	r.checkRef(&ps)
	checkPath(&ps, "path", r.Path)
	for i, p := range r.Sparse {
		checkPath(&ps, fmt.Sprintf("sparse[%d]", i), p)
		if hasMeta(p) {
			ps.add(fmt.Sprintf("sparse[%d]", i), "name folders or files", "%q is a pattern", p)
		}
	}
	for i, p := range r.EnvFiles {
		checkPath(&ps, fmt.Sprintf("envFiles[%d]", i), p)
	}
	for i, o := range r.Overrides {
		at := fmt.Sprintf("overrides[%d]", i)
		if len(o.When) == 0 {
			ps.add(at+".when", "name labels of the hosts that it is for", "an override without labels")
		}
		checkPath(&ps, at+".path", o.Path)
		for j, p := range o.Skip {
			checkPath(&ps, fmt.Sprintf("%s.skip[%d]", at, j), p)
		}
		for j, p := range o.EnvFiles {
			checkPath(&ps, fmt.Sprintf("%s.envFiles[%d]", at, j), p)
		}
	}
	if r.Interval > 0 && time.Duration(r.Interval) < time.Second {
		ps.add("interval", "a webhook is the way to hear of changes sooner", "%s is too often", time.Duration(r.Interval))
	}
	if r.MaxSize < 0 {
		ps.add("maxSize", "", "less than nothing")
	}
	if r.OnFailure != "" && r.OnFailure != Hold && r.OnFailure != Rollback {
		ps.add("onFailure", "use hold or rollback", "%q is neither", r.OnFailure)
	}
	if slices.Contains(r.DependsOn, r.Name) {
		ps.add("dependsOn", "", "%s depends on itself", r.Name)
	}
	r.checkFiles(&ps)
	r.checkReport(&ps)
	return ps
}

func (r Repository) checkURL(ps *Problems) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme == "" {
		remedy := "write it as https://host/path, ssh://user@host/path, file:///path or oci://registry/repository"
		if user, rest, ok := strings.Cut(r.URL, ":"); ok && strings.Contains(user, "@") {
			remedy = fmt.Sprintf("write it as ssh://%s/%s", user, strings.TrimPrefix(rest, "/"))
		}
		ps.add("url", remedy, "%q is not a URL", redactURL(r.URL))
		return
	}
	if _, given := u.User.Password(); given || u.User != nil && u.Scheme != "ssh" {
		ps.add("url", "name a file with them under auth (tokenFile, or username and passwordFile)", "credentials stand in the URL, where everyone reads them")
	}
	secret := r.Auth.TokenFile != "" || r.Auth.PasswordFile != ""
	switch u.Scheme {
	case "https", "oci":
	case "http":
		if secret && !loopback(u.Hostname()) {
			ps.add("url", "use https", "credentials would travel in the open")
		}
	case "ssh":
		if r.Auth.SSHKey == "" {
			ps.add("auth.sshKey", "name the file of a private key", "ssh needs a key")
		}
		if r.Auth.KnownHosts == "" {
			ps.add("auth.knownHosts", "write one with ssh-keyscan, and compare it with what the server's owner says", "ssh needs to know the server's key")
		}
	case "git":
	case "file":
		if !path.IsAbs(u.Path) || u.Host != "" {
			ps.add("url", "write it as file:///path", "%q has no absolute path", r.URL)
		}
	default:
		ps.add("url", "use https, http, ssh, git, file or oci", "%q is not a way to fetch from", u.Scheme)
	}
	if u.Scheme != "oci" && u.Scheme != "file" && u.Host == "" {
		ps.add("url", "", "%q names no host", r.URL)
	}
	switch {
	case secret && u.Scheme == "oci":
		ps.add("auth", "log in with `docker login`, or write ~/.docker/config.json", "a registry's credentials are those that images are pulled with")
	case secret && u.Scheme != "https" && u.Scheme != "http":
		ps.add("auth", "", "%s takes neither tokens nor passwords", u.Scheme)
	}
	if r.Auth.CAFile != "" && u.Scheme != "https" {
		ps.add("auth.caFile", "add the authority to those of this host, or leave it away", "only servers of https URLs are checked by it")
	}
	if u.Scheme != "ssh" && (r.Auth.SSHKey != "" || r.Auth.KnownHosts != "") {
		ps.add("auth", "leave sshKey and knownHosts away, or write the URL as ssh://user@host/path", "%s has no use for ssh keys", u.Scheme)
	}
	if r.Auth.Username != "" && !secret {
		ps.add("auth.username", "name a file with the password or a token under auth", "a user's name alone is of no use")
	}
	if r.Auth.PasswordFile != "" && r.Auth.TokenFile != "" {
		ps.add("auth", "leave one of them away", "both a token and a password are given")
	}
	if r.Auth.PasswordFile != "" && r.Auth.Username == "" {
		ps.add("auth.username", "", "a password needs a user's name")
	}
}

// redactURL hides what may be a password in what is no URL.
func redactURL(text string) string {
	if at := strings.LastIndex(text, "@"); at >= 0 && strings.Contains(text[:at], "//") {
		return "..." + text[at:]
	}
	return text
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (r Repository) checkRef(ps *Problems) {
	n := 0
	for _, text := range []string{r.Ref.Branch, r.Ref.Tag, r.Ref.SemVer, r.Ref.Commit} {
		if text != "" {
			n++
		}
	}
	if n > 1 {
		ps.add("ref", "", "give one of branch, tag, semver and commit")
	}
	for name, text := range map[string]string{"branch": r.Ref.Branch, "tag": r.Ref.Tag} {
		if strings.ContainsAny(text, " ~^:?*[\\\x7f") || strings.HasPrefix(text, "-") || strings.Contains(text, "..") {
			ps.add("ref."+name, "", "%q can't be the name of a %s", text, name)
		}
	}
	if r.Ref.SemVer != "" {
		if _, err := semver.NewConstraint(r.Ref.SemVer); err != nil {
			ps.add("ref.semver", "write it as >=1.2 <2", "%q is not a range of versions", r.Ref.SemVer)
		}
	}
	oci := strings.HasPrefix(r.URL, "oci:")
	if r.Ref.Commit != "" && !oci && !commitID.MatchString(r.Ref.Commit) {
		ps.add("ref.commit", "write all its 40 digits", "%q is not a commit's id", r.Ref.Commit)
	}
	if oci && r.Ref.Commit != "" && !digestID.MatchString(r.Ref.Commit) {
		ps.add("ref.commit", "write it as sha256:... with its 64 digits", "%q is not the digest of an artifact", r.Ref.Commit)
	}
	if oci && len(r.Sparse) > 0 {
		ps.add("sparse", "leave it away", "an artifact is fetched as a whole")
	}
	if oci && r.Ref.Branch != "" {
		ps.add("ref.branch", "use tag, semver, or commit with a digest", "a registry has no branches")
	}
	if oci && r.Verify.Required() {
		ps.add("verify", "pin the artifact's digest (ref.commit)", "signatures of OCI artifacts are not checked")
	}
	if r.Verify.Tag && r.Ref.Tag == "" && r.Ref.SemVer == "" {
		ps.add("verify.tag", "follow a tag, or ask for signed commits", "no tag is followed")
	}
	if r.Verify.Tag && !r.Verify.Required() {
		ps.add("verify.tag", "name keys under openpgp or allowedSigners", "no key is given")
	}
}

func checkPath(ps *Problems, at, text string) {
	if text == "" {
		return
	}
	if path.IsAbs(text) || !filepath.IsLocal(text) {
		ps.add(at, "name something below the repository's top", "%q is not within the repository", text)
	} else if !doublestar.ValidatePattern(text) {
		ps.add(at, "", "%q is not a pattern", text)
	}
}

// hasMeta tells a pattern from a path.
func hasMeta(text string) bool { return strings.ContainsAny(text, `*?[{`) }

// IsPattern tells whether Path names many stack files.
func (r Repository) IsPattern() bool { return hasMeta(r.Path) }

func (r Repository) checkFiles(ps *Problems) {
	for at, file := range map[string]string{
		"auth.tokenFile": r.Auth.TokenFile, "auth.passwordFile": r.Auth.PasswordFile, "auth.sshKey": r.Auth.SSHKey,
		"auth.knownHosts": r.Auth.KnownHosts, "auth.caFile": r.Auth.CAFile, "verify.allowedSigners": r.Verify.AllowedSigners,
		"webhook.secretFile": r.Webhook.SecretFile, "report.tokenFile": r.Report.TokenFile,
	} {
		checkHostFile(ps, at, file)
	}
	for i, file := range r.Verify.OpenPGP {
		checkHostFile(ps, fmt.Sprintf("verify.openpgp[%d]", i), file)
	}
	for i, file := range r.HostFiles {
		checkHostFile(ps, fmt.Sprintf("hostFiles[%d]", i), file)
	}
	slices.SortFunc(*ps, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
}

func checkHostFile(ps *Problems, at, file string) {
	if file != "" && !filepath.IsAbs(file) {
		ps.add(at, "", "%q is not an absolute path of this host", file)
	}
}

func (r Repository) checkReport(ps *Problems) {
	if r.Report == (Report{}) {
		return
	}
	if !slices.Contains([]string{"github", "gitlab", "gitea"}, r.Report.Provider) {
		ps.add("report.provider", "use github, gitlab or gitea (Forgejo too)", "%q is not known", r.Report.Provider)
	}
	if !isHTTP(r.Report.URL) {
		ps.add("report.url", "such as https://api.github.com/repos/OWNER/NAME", "the URL of the repository's API is needed")
	}
	if strings.HasPrefix(r.URL, "oci:") {
		ps.add("report", "leave it away", "an artifact is no commit that a status could be given to")
	}
	if r.Report.TokenFile == "" {
		ps.add("report.tokenFile", "", "a token is needed")
	}
}

func isHTTP(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// States that notifications are about.
var States = []string{"applied", "failed", "recovered"}

func (n Notify) check(at string, ps *Problems) {
	if (n.URL == "") == (n.URLFile == "") {
		ps.add(at, "", "give one of url and urlFile")
	}
	if n.URL != "" && !isHTTP(n.URL) {
		ps.add(at+".url", "", "%q is not an http or https URL", n.URL)
	}
	checkHostFile(ps, at+".urlFile", n.URLFile)
	checkHostFile(ps, at+".tokenFile", n.TokenFile)
	if !slices.Contains([]string{"", "json", "slack", "ntfy"}, n.Format) {
		ps.add(at+".format", "use json, slack or ntfy", "%q is not a form of notifications", n.Format)
	}
	for i, on := range n.On {
		if !slices.Contains(States, on) {
			ps.add(fmt.Sprintf("%s.on[%d]", at, i), "use "+strings.Join(States, ", "), "%q is not a state", on)
		}
	}
}
