// Package notify tells others what became of a repository: people by way of webhooks, and the server by commit statuses.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// Message is one change of state. It is what the format json sends.
type Message struct {
	Repository string    `json:"repository"`
	Host       string    `json:"host"`
	State      string    `json:"state"` // applied, failed, recovered
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	Revision   string    `json:"revision,omitempty"`
	Subject    string    `json:"subject,omitempty"`
	Author     string    `json:"author,omitempty"`
	Stacks     []string  `json:"stacks,omitempty"`
	Time       time.Time `json:"time"`
}

// title is one line.
func (m Message) title() string {
	return fmt.Sprintf("%s on %s: %s", m.Repository, m.Host, m.State)
}

func (m Message) text() string {
	var lines []string
	if m.Revision != "" {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%.12s %s", m.Revision, m.Subject)))
	}
	if m.Author != "" {
		lines = append(lines, "by "+m.Author)
	}
	if m.State == "failed" {
		lines = append(lines, m.Reason+": "+m.Message)
	}
	if len(m.Stacks) > 0 {
		lines = append(lines, "stacks: "+strings.Join(m.Stacks, ", "))
	}
	return strings.Join(lines, "\n")
}

// ErrRefused means that the receiver answered that it does not want it: there is no use in trying again.
var ErrRefused = errors.New("the receiver refuses it")

// Send sends a message to one receiver.
func Send(ctx context.Context, n declare.Notify, m Message) error {
	target, err := valueOrFile(n.URL, n.URLFile)
	if err != nil {
		return err
	}
	var body []byte
	header := http.Header{}
	switch n.Format {
	case "slack":
		header.Set("Content-Type", "application/json")
		body, err = json.Marshal(map[string]string{"text": "*" + slackText(m.title()) + "*\n" + slackText(m.text())})
	case "ntfy":
		header.Set("Title", m.title())
		header.Set("Tags", map[string]string{"failed": "rotating_light"}[m.State])
		header.Set("Priority", map[string]string{"failed": "high"}[m.State])
		body = []byte(m.text())
	default:
		header.Set("Content-Type", "application/json")
		body, err = json.Marshal(m)
	}
	if err != nil {
		return err
	}
	token, err := valueOrFile("", n.TokenFile)
	if err != nil {
		return err
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return post(ctx, target, header, body)
}

// slackText escapes what Slack reads as its markup.
func slackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

func valueOrFile(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	data, err := os.ReadFile(file)
	return strings.TrimSpace(string(data)), err
}

// timeout of one request.
const timeout = 15 * time.Second

var client = &http.Client{
	Timeout: timeout,
	// A secret goes where it was meant to go, and nowhere else.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func post(ctx context.Context, target string, header http.Header, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, "POST", target, bytes.NewReader(body))
	if err != nil {
		return errors.New("its URL is malformed") // the error would show it
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // without the URL, which may be a secret
			err = failed.Err
		}
		return err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for the message only
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("it answers %s: %q", resp.Status, said)
	}
	return fmt.Errorf("%w: %s: %q", ErrRefused, resp.Status, said)
}
