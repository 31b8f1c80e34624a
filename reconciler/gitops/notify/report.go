package notify

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// States of a commit.
const (
	Pending = "pending"
	Success = "success"
	Failure = "failure"
)

// longestDescription is what GitHub takes.
const longestDescription = 140

// Report tells the server what became of a commit.
func Report(ctx context.Context, r declare.Report, host, commit, state, description string) error {
	token, err := valueOrFile("", r.TokenFile)
	if err != nil {
		return err
	}
	name := r.Context
	if name == "" {
		name = "stack/" + host
	}
	description, _, _ = strings.Cut(description, "\n")
	if runes := []rune(description); len(runes) > longestDescription {
		description = string(runes[:longestDescription-1]) + "…"
	}
	header := http.Header{"Content-Type": {"application/json"}}
	body := map[string]string{"state": state, "context": name, "description": description}
	switch r.Provider {
	case "github":
		header.Set("Authorization", "Bearer "+token)
		header.Set("Accept", "application/vnd.github+json")
	case "gitea":
		header.Set("Authorization", "token "+token)
	case "gitlab":
		header.Set("PRIVATE-TOKEN", token)
		body = map[string]string{"state": map[string]string{Pending: "running", Success: "success", Failure: "failed"}[state], "name": name, "description": description}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return post(ctx, strings.TrimSuffix(r.URL, "/")+"/statuses/"+url.PathEscape(commit), header, data)
}
