//go:build cluster

package e2e_test

import (
	"crypto/rand"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// testPrograms has authors' programs be linked with the C library, which the
// image has, and with one that it lacks.
func testPrograms(t *testing.T, i *installation) {
	t.Run("C library", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		run(t, filepath.Join("testdata", "dynamic"), "go", "build", "-o", filepath.Join(dir, "main"), ".")
		file, err := elf.Open(filepath.Join(dir, "main"))
		check(t, err)
		defer func() { check(t, file.Close()) }()
		if needed, err := file.ImportedLibraries(); err != nil || !slices.Contains(needed, "libc.so.6") {
			t.Fatalf("the program needs %v, %v", needed, err)
		}
		id, err := i.register(t, dir)
		check(t, err)
		i.create(t, id, "1")
		challenges, _ := i.clients(t, "gateway")
		_, err = challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
		check(t, err)
	})
	t.Run("missing library", func(t *testing.T) {
		t.Parallel()
		dir, elsewhere := t.TempDir(), t.TempDir()
		library, source := filepath.Join(elsewhere, "libcheese.so"), filepath.Join(elsewhere, "main.c")
		check(t, os.WriteFile(source, []byte("int cheese(void); int main(void) { return cheese(); }"), 0o600))
		check(t, os.WriteFile(filepath.Join(elsewhere, "cheese.c"), []byte("int cheese(void) { return 0; }"), 0o600))
		run(t, elsewhere, "gcc", "-shared", "-fPIC", "-o", library, "cheese.c")
		run(t, elsewhere, "gcc", "-o", filepath.Join(dir, "main"), "main.c", library, "-Wl,-rpath,/nowhere")
		_, err := i.register(t, dir)
		answer := status.Convert(err)
		said := strings.Join(violations(answer), " ")
		if answer.Code() != codes.InvalidArgument || reasons(answer) != "SCENARIO_NON_MATCHING_SPECIFICATION" ||
			!strings.Contains(said, "libcheese.so") || !strings.Contains(said, "CGO_ENABLED=0") {
			t.Errorf("%v: %s", answer, said)
		}
	})
}

// register makes a challenge of a program, main in a directory.
func (i *installation) register(t testing.TB, dir string) (challenge string, err error) {
	t.Helper()
	registry, id := clustertest.Registry(t), "program-"+strings.ToLower(rand.Text()[:8])
	check(t, os.WriteFile(filepath.Join(dir, "Pulumi.yaml"),
		[]byte("name: program\nruntime: {name: go, options: {binary: ./main}}\n"), 0o600))
	reference := registry + "/mayfly-test/" + id + ":1"
	_, err = scenario.Push(t.Context(), dir, reference, scenario.Registries{PlainHTTP: []string{registry}})
	check(t, err)
	challenges, _ := i.clients(t, "gateway")
	_, err = challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{Id: id, Scenario: reference})
	return id, err
}

func run(t testing.TB, dir, program string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir, command.Env = dir, append(os.Environ(), "CGO_ENABLED=1")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// violations are what is wrong with the fields of a request.
func violations(answer *status.Status) []string {
	var found []string
	for _, detail := range answer.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				found = append(found, v.GetField()+": "+v.GetDescription())
			}
		}
	}
	return found
}

// reasons are those of an error.
func reasons(answer *status.Status) string {
	var found string
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			found += info.GetReason()
		}
	}
	return found
}
