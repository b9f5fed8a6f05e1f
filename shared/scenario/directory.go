package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// OpenDirectory returns the scenario in a directory of this machine, which
// changes nothing in it: a program that has to be compiled, or may not be
// executed as it lies there, is made elsewhere. The caller must close the
// content. What is no scenario is a ScenarioMismatch error, and source that
// does not compile a ScenarioPreprocessing error.
func OpenDirectory(ctx context.Context, dir string) (_ *Content, err error) {
	files, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the scenario: %w", err)
	}
	root, err := os.OpenRoot(files)
	if err != nil {
		return nil, fmt.Errorf("open the scenario: %w", err)
	}
	defer func() { _ = root.Close() }()
	p, err := readProject(root)
	if err != nil {
		return nil, ctf.ScenarioMismatch(dir, err.Error(), nil)
	}
	if p.manifest {
		return &Content{Dir: files, Project: p.name, Manifest: true, unpin: func() {}}, nil
	}
	beside, err := os.MkdirTemp("", "mayfly-scenario-")
	if err != nil {
		return nil, fmt.Errorf("open the scenario: %w", err)
	}
	content := &Content{
		Dir: files, Project: p.name, Binary: filepath.Join(beside, built),
		unpin: func() { _ = os.RemoveAll(beside) }, // a temporary directory
	}
	defer func() {
		if err != nil {
			content.Close()
		}
	}()
	if p.binary == "" {
		output, err := compile(ctx, files, content.Binary)
		if err != nil {
			return nil, ctf.ScenarioPreprocessing(dir, files, output, err)
		}
		return content, nil
	}
	if err := copyProgram(root, p.binary, content.Binary); err != nil {
		return nil, fmt.Errorf("open the scenario: %w", err)
	}
	return content, nil
}

// copyProgram copies a program, so that it may be executed and its author may
// build the next one meanwhile.
func copyProgram(root *os.Root, name, to string) (err error) {
	in, err := root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
