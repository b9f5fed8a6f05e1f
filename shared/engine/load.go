package engine

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

const (
	// codeNotLoaded is the exit code of a loader that misses a library.
	codeNotLoaded = 127
	// maxInterpreter is how much of a script's first line is read, in bytes.
	maxInterpreter = 256
)

// A loadError says that a program could not even begin, and names the way out:
// it was built for another system, or misses libraries here.
type loadError struct{ why string }

func (e *loadError) Error() string {
	return fmt.Sprintf("the program can't be loaded: %s; build it with 'CGO_ENABLED=0 GOOS=linux GOARCH=%s go build', "+
		"so that it needs nothing of the system, and push it again", e.why, runtime.GOARCH)
}

// notStarted explains why the kernel did not start a program.
func notStarted(binary string, err error) error {
	if why := strange(binary); why != "" {
		return &loadError{why}
	}
	if path, ok := errors.AsType[*os.PathError](err); ok {
		err = path.Err // where the cache has it is of no use to an author
	}
	return &loadError{err.Error()}
}

// strange is what the kernel would not have of a file, empty if that can't be
// seen.
func strange(binary string) string {
	name := filepath.Base(binary)
	file, err := elf.Open(binary)
	if err != nil {
		if interpreter := shebang(binary); interpreter != "" {
			return fmt.Sprintf("%s is a script for %s, which this server does not have, or does not let it run", name, interpreter)
		}
		return name + " is no Linux program"
	}
	defer func() { _ = file.Close() }()
	if is := architecture(file.Machine); is != runtime.GOARCH {
		return fmt.Sprintf("%s is built for %s, and this server is %s", name, is, runtime.GOARCH)
	}
	if loader := loaderOf(file); loader != "" {
		return fmt.Sprintf("%s needs the loader %s, which this server does not have, or does not let it run", name, loader)
	}
	return ""
}

// shebang is the program that a script names in its first line.
func shebang(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	begin, _ := io.ReadAll(io.LimitReader(file, maxInterpreter)) // what there is
	line, _, _ := strings.Cut(string(begin), "\n")
	rest, ok := strings.CutPrefix(line, "#!")
	if words := strings.Fields(rest); ok && len(words) > 0 {
		return words[0]
	}
	return ""
}

// architecture returns Go's name of a machine.
func architecture(machine elf.Machine) string {
	switch machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return strings.ToLower(strings.TrimPrefix(machine.String(), "EM_"))
}

// loaderOf is what loads a dynamic program, empty for a static one.
func loaderOf(file *elf.File) string {
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		path, _ := io.ReadAll(io.LimitReader(p.Open(), maxInterpreter)) // what there is
		return strings.TrimRight(string(path), "\x00")
	}
	return ""
}

// What the loaders of glibc and of musl say when they miss something.
var (
	missingLibrary = regexp.MustCompile(`(?m)(?:error while loading shared libraries: |Error loading shared library )(\S+): `)
	missingVersion = regexp.MustCompile("(?m)^\\S+: (\\S+): version `(\\S+)' not found \\(required by ")
	missingSymbol  = regexp.MustCompile(`(?m)(?:: symbol lookup error: \S+: undefined symbol: |^Error relocating \S+: )([^\s:,]+)`)
)

// notLoaded tells from what a loader said that it could not load a program, nil
// if the program itself has run.
func notLoaded(exit *exitError, said string) error {
	if m := missingLibrary.FindStringSubmatch(said); m != nil && exit.code == codeNotLoaded {
		return &loadError{fmt.Sprintf("it needs the library %s, which this server does not have", m[1])}
	}
	if m := missingSymbol.FindStringSubmatch(said); m != nil && exit.code == codeNotLoaded {
		return &loadError{fmt.Sprintf("it needs the symbol %s, which no library of this server has", m[1])}
	}
	if m := missingVersion.FindStringSubmatch(said); m != nil && exit.code == 1 {
		return &loadError{fmt.Sprintf("it needs %s of the library %s, and this server has an older one", m[2], filepath.Base(m[1]))}
	}
	return nil
}
