package apitest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
)

// plainProgram is the import path of the program in the scenarios.
const plainProgram = "github.com/mayfly-ctf/mayfly/shared/apitest/testdata/programs/plain"

// scenarios are the references of what the suite pushed.
type scenarios struct {
	registry string
	// program is the binary in them.
	program []byte
	plain   string
	// plainDigest is the digest of plain.
	plainDigest string
	// renamed is the same program in another Pulumi project.
	renamed string
}

func pushScenarios(t *testing.T, target Target) scenarios {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plain")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, plainProgram)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the scenario: %v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := scenarios{registry: target.Registry, program: program}
	plain, renamed := prebuilt("plain", program), prebuilt("renamed", program)
	if target.Pack != nil {
		image := []byte(target.Pack(program))
		plain["image"], renamed["image"] = image, image
	}
	s.plain, s.plainDigest = s.push(t, "plain:1", plain)
	s.renamed, _ = s.push(t, "renamed:1", renamed)
	return s
}

// files are the files of a scenario by path.
type files map[string][]byte

func prebuilt(project string, program []byte) files {
	return files{
		"Pulumi.yaml": []byte("name: " + project + "\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
		"main":        program,
	}
}

// push stores a scenario of whatever content under repository:tag, and returns
// reference and digest.
func (s scenarios) push(t *testing.T, name string, content files) (reference, digest string) {
	t.Helper()
	store := memory.New()
	var layers []ocispec.Descriptor
	for path, data := range content {
		layer, err := oras.PushBytes(t.Context(), store, "application/vnd.ctfer-io.file", data)
		if err != nil {
			t.Fatal(err)
		}
		layer.Annotations = map[string]string{ocispec.AnnotationTitle: path}
		layers = append(layers, layer)
	}
	manifest, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, "application/vnd.ctfer-io.scenario",
		oras.PackManifestOptions{Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	reference = s.registry + "/apitest/" + name
	repository, err := remote.NewRepository(reference)
	if err != nil {
		t.Fatal(err)
	}
	repository.PlainHTTP = true
	if err := store.Tag(t.Context(), manifest, repository.Reference.Reference); err != nil {
		t.Fatal(err)
	}
	_, err = oras.Copy(t.Context(), store, repository.Reference.Reference, repository, "", oras.DefaultCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	return reference, manifest.Digest.String()
}
