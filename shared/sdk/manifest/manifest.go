// Package manifest describes instances without code: it reads mayfly.yaml,
// says where and why it is wrong, and turns it into what a program would have
// described with the kit in package kubernetes, so that the two can't differ.
// It knows the file, its JSON Schema and the kit. It knows nothing of
// registries, and of the engine only what every scenario does.
package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// File is the name of a manifest in the directory of a scenario.
const File = "mayfly.yaml"

// maxFile is how large a file of the scenario's directory may be that goes into
// a container: Kubernetes takes no more.
const maxFile = 1 << 20

// A Manifest is a scenario without code. It never changes.
type Manifest struct {
	doc  document
	tree *tree
	// files are the contents of the directory's files that containers take, by
	// their names; nil if there is no directory.
	files map[string]string
}

// Parse reads a manifest. All that is wrong with it is in the [InvalidError]
// that it returns then. What a server or the directory with other files has to
// say does not count here: see [Load] and [Manifest.Factory].
func Parse(data []byte) (*Manifest, error) {
	m, found, err := new(Reader).parse(data)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		return nil, &InvalidError{Findings: found}
	}
	return m, nil
}

// parse returns the manifest as far as it can be read, and its mistakes.
func (r *Reader) parse(data []byte) (*Manifest, []Finding, error) {
	r.once.Do(func() { r.shape, r.err = newShape() })
	if r.err != nil {
		return nil, nil, r.err
	}
	t, err := readTree(data)
	if err != nil {
		return nil, nil, err
	}
	faults := append(t.faults, r.shape.check(t)...)
	m := &Manifest{tree: t}
	// What can't be decoded is no news: the schema says it better.
	_ = t.root.Decode(&m.doc)
	for _, f := range m.check() {
		if !covered(f, faults) {
			faults = append(faults, f)
		}
	}
	return m, m.findings(faults), nil
}

// covered tells whether a fault of the structure is in the same place, or a part
// of it: then the other one is likely to follow from it.
func covered(f fault, structure []fault) bool {
	for _, s := range structure {
		if s.at.within(f.at) || f.at.within(s.at) && len(s.at) > 0 && !s.key {
			return true
		}
	}
	return false
}

func (m *Manifest) findings(faults []fault) []Finding {
	var found []Finding
	for _, f := range faults {
		found = append(found, m.tree.finding(f, SeverityError))
	}
	return order(found)
}

// Load reads the manifest in a directory, and the files beside it that it takes
// into containers. It fails like [Parse], and if a file is missing, too large
// or outside the directory. A directory without a manifest is fs.ErrNotExist.
func Load(dir string) (*Manifest, error) { return new(Reader).Load(dir) }

// LoadRoot is [Load] for a directory that is open already.
func LoadRoot(root *os.Root) (*Manifest, error) { return new(Reader).loadRoot(root) }

// A Reader loads manifests as [Load] does, for who loads many: it compiles the
// schema, which takes longer than all the rest, only once. The zero value is
// ready, and may be used by many at once.
type Reader struct {
	once  sync.Once
	shape *shape
	err   error // why there is none
}

// Load is [Load].
func (r *Reader) Load(dir string) (*Manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the scenario: %w", err)
	}
	defer func() { _ = root.Close() }()
	return r.loadRoot(root)
}

func (r *Reader) loadRoot(root *os.Root) (*Manifest, error) {
	data, err := readFile(root, File, maxSize)
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	m, found, err := r.parse([]byte(data))
	if err != nil {
		return nil, err
	}
	found = append(found, m.readFiles(root)...)
	if len(found) > 0 {
		return nil, &InvalidError{Findings: order(found)}
	}
	return m, nil
}

// readFiles reads what containers take from the directory, and says what can't
// be read.
func (m *Manifest) readFiles(root *os.Root) []Finding {
	m.files = make(map[string]string)
	var faults []fault
	for name, c := range m.doc.Containers {
		for target, f := range c.Files {
			if f.From == "" {
				continue
			}
			at := path{"containers", name, "files", target, "from"}
			content, err := readFile(root, f.From, maxFile)
			if err != nil {
				faults = append(faults, fault{
					at: at, rule: "file", message: fmt.Sprintf("%.100q can't be read: %s", f.From, reason(err)),
					fix: "name a file in the directory of " + File,
				})
				continue
			}
			m.files[f.From] = content
		}
	}
	faults = append(faults, m.checkFiles()...)
	return m.findings(faults)
}

// readFile reads a regular file below root. Links that lead out of it are not
// followed.
func readFile(root *os.Root, name string, limit int64) (string, error) {
	if !filepath.IsLocal(name) {
		return "", errors.New("it is not within the directory")
	}
	info, err := root.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("it is no file")
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", err
	}
	if int64(len(data)) > limit {
		return "", errors.New("it is larger than 1 MiB")
	}
	return string(data), nil
}

// reason is what is wrong with a file, without its name.
func reason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no such file"
	}
	if wrong, ok := errors.AsType[*fs.PathError](err); ok {
		return wrong.Err.Error()
	}
	return err.Error()
}

// Name returns the name of the scenario.
func (m *Manifest) Name() string { return m.doc.Name }
