package e2e

import (
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/e2e/images"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// push sends a folder as an artifact to the registry, as `flux push artifact` does: push.py FOLDER TAG. It prints the digest.
const push = `
import gzip, hashlib, io, json, sys, tarfile, urllib.request
folder, tag = sys.argv[1:]
base = "http://127.0.0.1:5005/v2/ops/shop/"
def send(method, url, data=b"", kind="application/octet-stream"):
    return urllib.request.urlopen(urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind}))
def blob(data, kind):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    where = send("POST", base + "blobs/uploads/").headers["Location"]
    send("PUT", where + ("&" if "?" in where else "?") + "digest=" + digest, data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}
tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode="w") as t: t.add(folder, ".")
layer = blob(gzip.compress(tar.getvalue(), mtime=0), "application/vnd.cncf.flux.content.v1.tar+gzip")
config = blob(b"{}", "application/vnd.cncf.flux.config.v1+json")
kind = "application/vnd.oci.image.manifest.v1+json"
manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer],
    "annotations": {"org.opencontainers.image.authors": "Ada", "org.opencontainers.image.revision": "main@sha1:0123"}}).encode()
send("PUT", base + "manifests/" + tag, manifest, kind)
print("sha256:" + hashlib.sha256(manifest).hexdigest())
`

func pushArtifact(h *host.Host, folder, tag string) string {
	h.T.Helper()
	return h.Sh("python3 push.py " + folder + " " + tag)
}

func TestAnArtifactInARegistryIsFollowedLikeARepository(t *testing.T) {
	h := follows(t)
	h.Registry(images.Registry{Addr: "127.0.0.1:5005", Storage: h.Dir + "/../artifacts"})
	h.Write("push.py", push)
	h.Write("shop/compose.yaml", web("index.html"))
	h.Write("shop/www/index.html", "one")
	first := pushArtifact(h, "shop", "v1.0.0")
	h.Stack("gitops", "add", "shop", "--url", "oci://127.0.0.1:5005/ops/shop", "--ref", "semver=1.x", "--interval", "1s", "--wait")
	settled(h, "shop", first, status.Succeeded)
	equal(t, "the page", h.Get("http://127.0.0.1:8080/"), "one")
	contains(t, "history", h.Stack("gitops", "history", "shop"), "Ada", "main@sha1:0123")

	h.Write("shop/www/index.html", "two")
	settled(h, "shop", pushArtifact(h, "shop", "v1.1.0"), status.Succeeded)
	equal(t, "the page of the next artifact", h.Get("http://127.0.0.1:8080/"), "two")
	id := h.PsOf("shop", "web")[0].ID
	h.Write("shop/README", "not of the stack")
	settled(h, "shop", pushArtifact(h, "shop", "v1.2.0"), status.Succeeded)
	equal(t, "the container after an artifact that is not about it", h.PsOf("shop", "web")[0].ID, id)

	h.Sh("ln -s /etc/passwd shop/out")
	settled(h, "shop", pushArtifact(h, "shop", "v1.3.0"), status.Unsafe, "out")
	r := h.Try("gitops", "add", "pinned", "--url", "oci://127.0.0.1:5005/ops/shop", "--ref", "branch=main")
	if r.Code != 1 || !strings.Contains(r.Stderr, "no branches") {
		t.Errorf("a branch of a registry: %v", r)
	}
}
