package engine_test

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// other is an architecture that this machine is not.
var other = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]

// A program that was built for another system, or misses libraries, is told to
// be so, and the way out is named.
func TestProgramCantBeLoaded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, test := range map[string]struct {
		make func(t *testing.T, program string) (beside []string)
		want string
	}{
		"a_library_is_missing": {lonely, "it needs the library libcheese.so, which this server does not have"},
		"a_version_is_missing": {newer, "it needs CHEESE_2 of the library libcheese.so, and this server has an older one"},
		"a_symbol_is_missing":  {symbolic, "it needs the symbol cheese, which no library of this server has"},
		"another_loader": {musl,
			"main needs the loader /lib/ld-cheese.so.1, which this server does not have, or does not let it run"},
		"another_architecture": {foreign, "main is built for " + other + ", and this server is " + runtime.GOARCH},
		"no_program":           {written("cheese\n"), "main is no Linux program"},
		"empty":                {written(""), "main is no Linux program"},
		"a_script":             {written("#!/usr/bin/cheese -e\n"), "main is a script for /usr/bin/cheese, which this server does not have, or does not let it run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "main")
			p := program(ctf.NewIdentity())
			p.Scenario = push(shared, strings.ReplaceAll(name, "_", "-"), file, test.make(t, file)...)
			want := "the program can't be loaded: " + test.want + "; build it with 'CGO_ENABLED=0 GOOS=linux GOARCH=" +
				runtime.GOARCH + " go build', so that it needs nothing of the system, and push it again"
			_, up := s.Up(t.Context(), p, ctf.Checkpoint{}, newLedger())
			for verb, err := range map[string]error{"preview": s.Preview(t.Context(), p), "up": up} {
				failure, ok := errors.AsType[*ctf.Error](err)
				if !ok || failure.Reason != ctf.ReasonScenarioMismatch || failure.Detail != want {
					t.Errorf("%s: got %v, want %s", verb, err, want)
				}
			}
		})
	}
}

// A dynamic program runs whose libraries are there, or come with it.
func TestDynamicProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "main")
	p := program(ctf.NewIdentity())
	p.Scenario = push(shared, "dynamic", file, linked(t, file, "1")...)
	s.mustUp(t, p, newLedger())
}

// lonely is a program without the library that it is linked with.
func lonely(t *testing.T, program string) []string {
	linked(t, program, "1")
	return nil
}

// newer is a program with an older library than it is linked with.
func newer(t *testing.T, program string) []string { return linked(t, program, "2") }

// symbolic is a program whose library has lost what it is linked with, as one of
// another version may.
func symbolic(t *testing.T, program string) []string {
	dir := t.TempDir()
	library := []string{"-shared", "-fPIC", "-o", "libcheese.so", "-Wl,-soname,libcheese.so"}
	compile(t, dir, "int cheese(void) { return 0; }", library...)
	compile(t, dir, "int cheese(void); int main(void) { return cheese(); }",
		"-o", program, "-L.", "-lcheese", "-Wl,-rpath,$ORIGIN,-z,now")
	compile(t, dir, "int bread(void) { return 0; }", library...)
	return []string{filepath.Join(dir, "libcheese.so")}
}

// linked makes a program that wants the library beside it, which has version 1
// of what the program wants in another version.
func linked(t *testing.T, program, version string) (beside []string) {
	dir := t.TempDir()
	for _, v := range []string{version, "1"} {
		check(t, os.MkdirAll(filepath.Join(dir, v), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, "versions"), []byte("CHEESE_"+v+" { cheese; };"), 0o600))
		compile(t, dir, "int cheese(void) { return 0; }", "-shared", "-fPIC", "-o", v+"/libcheese.so",
			"-Wl,-soname,libcheese.so,--version-script=versions")
	}
	compile(t, dir, "int cheese(void); int main(void) { return cheese(); }",
		"-o", program, "-L"+version, "-lcheese", "-Wl,-rpath,$ORIGIN")
	return []string{filepath.Join(dir, "1", "libcheese.so")}
}

// musl is a program for the loader of another C library.
func musl(t *testing.T, program string) []string {
	compile(t, t.TempDir(), "int main(void) { return 0; }", "-o", program, "-Wl,--dynamic-linker=/lib/ld-cheese.so.1")
	return nil
}

func compile(t *testing.T, dir, source string, args ...string) {
	t.Helper()
	cc := exec.CommandContext(t.Context(), "gcc", append([]string{"-x", "c", "-", "-x", "none"}, args...)...)
	cc.Dir, cc.Stdin = dir, strings.NewReader(source)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("gcc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// foreign is a file that says at byte 18 to be for another architecture.
func foreign(t *testing.T, program string) []string {
	musl(t, program)
	text, err := os.ReadFile(program)
	check(t, err)
	binary.LittleEndian.PutUint16(text[18:], uint16(map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[other]))
	check(t, os.WriteFile(program, text, 0o600))
	return nil
}

func written(content string) func(*testing.T, string) []string {
	return func(t *testing.T, program string) []string {
		check(t, os.WriteFile(program, []byte(content), 0o600))
		return nil
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
