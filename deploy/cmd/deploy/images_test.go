package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// What `make release` runs, with a small program: an image for each
// architecture under one reference, and a list of the parts of each, in the
// directory and with the image.
func TestRelease(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	t.Chdir("../../..") // where make runs it
	lists := t.TempDir()
	cmd := newImagesCommand([]program{{name: "small", folder: "deploy/image/testdata/program", authors: true, arguments: []string{"serve"}}})
	args := []string{
		"--registry", strings.TrimPrefix(server.URL, "http://") + "/path", "--arch", "amd64,arm64", "--sbom", lists,
		"--tag", "one", "--build", t.TempDir(),
	}
	if mirror := os.Getenv("MIRROR"); mirror != "" {
		args = append(args, "--mirror", mirror)
	}
	cmd.SetArgs(args)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(t.Output())
	check(t, cmd.ExecuteContext(t.Context()))

	printed := strings.Fields(out.String())
	if len(printed) != 1 {
		t.Fatalf("printed %q", out.String())
	}
	reference, err := name.NewDigest(printed[0])
	check(t, err)
	index, err := remote.Index(reference)
	check(t, err)
	manifest, err := index.IndexManifest()
	check(t, err)
	var archs []string
	for _, image := range manifest.Manifests {
		arch := image.Platform.Architecture
		archs = append(archs, arch)
		list, err := os.ReadFile(filepath.Join(lists, "small-"+arch+".spdx.json"))
		check(t, err)
		if !strings.Contains(string(list), "SPDX-2.3") {
			t.Errorf("%s: the list is %s", arch, list)
		}
		attached, err := remote.Referrers(reference.Context().Digest(image.Digest.String()))
		check(t, err)
		found, err := attached.IndexManifest()
		check(t, err)
		if len(found.Manifests) != 1 || found.Manifests[0].ArtifactType != "application/spdx+json" {
			t.Errorf("%s: attached are %+v", arch, found.Manifests)
		}
	}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Errorf("there are images for %v", archs)
	}
	tagged, err := remote.Head(reference.Context().Tag("one"))
	check(t, err)
	if tagged.Digest.String() != reference.DigestStr() {
		t.Errorf("the tag is of %s, and %s was printed", tagged.Digest, reference.DigestStr())
	}
}
