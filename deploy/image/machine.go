package image

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// FromMachine returns a program of this machine and the libraries that it is
// linked with, for clusters that can pull no image of it. They keep their
// paths. The C library is among them, so Plan.Libraries is not to be set.
func FromMachine(ctx context.Context, program string) (path string, libraries []File, err error) {
	if path, err = exec.LookPath(program); err != nil {
		return "", nil, fmt.Errorf("find %s on this machine: %w", program, err)
	}
	listed, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return "", nil, fmt.Errorf("list the libraries of %s: %w", path, err)
	}
	if libraries = parseLibraries(listed); len(libraries) == 0 {
		return "", nil, fmt.Errorf("%s has no libraries", path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	return resolved, libraries, err
}

// parseLibraries reads what ldd has found, sorted by name.
func parseLibraries(listed []byte) []File {
	var libraries []File
	for _, match := range regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(0x`).FindAllSubmatch(listed, -1) {
		library := string(match[1])
		libraries = append(libraries, File{Name: library[1:], Mode: 0o755, Source: library})
	}
	slices.SortFunc(libraries, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return libraries
}
