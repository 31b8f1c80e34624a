package e2e

import "testing"

func TestAServerOfOneFileFollowsItsRepository(t *testing.T) {
	h := start(t)
	contains(t, "the page", makeExample(h, "gitops-server"), "Hello from the repository.", "Welcome, admin.")
	contains(t, "the next page", makeExample(h, "gitops-server", "push"), "Hello again.")
	id := h.PsOf("site", "web")[0].ID
	contains(t, "the page of what broke", makeExample(h, "gitops-server", "break"), "Hello again.")
	contains(t, "the status of what broke", h.Try("gitops", "status", "site").Stdout, "RolledBack", "Break it", "A new page", "in time", "[emerg]")
	makeExample(h, "gitops-server", "fix")
	contains(t, "the rotated password", makeExample(h, "gitops-server", "rotate"), "Welcome, admin.")
	if h.PsOf("site", "web")[0].ID == id {
		t.Error("the container has its old secret")
	}
	contains(t, "history", h.Stack("gitops", "history", "site"), "A new page", "Break it", "Another password", "Ada <ada@example.com>")
	makeExample(h, "gitops-server", "down")
}
