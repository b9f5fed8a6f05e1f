package scenario

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Inspect tells whether a directory is a scenario that can be pushed, as a
// ScenarioMismatch error if it is not. It returns the path of the program that
// the directory has, if it has one: the program of source is not made yet, and
// some scenarios need none.
func Inspect(dir string) (program string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("read the scenario: %w", err)
	}
	defer func() { _ = root.Close() }()
	if _, err := pack(root); err != nil {
		return "", ctf.ScenarioMismatch(dir, err.Error(), nil)
	}
	p, err := readProject(root)
	if err != nil {
		return "", ctf.ScenarioMismatch(dir, err.Error(), nil)
	}
	if p.binary == "" {
		return "", nil
	}
	return filepath.Join(dir, p.binary), nil
}
