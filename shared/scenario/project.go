package scenario

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

const maxProjectFile = 1 << 20 // bytes

// projectName is what Pulumi accepts as the name of a project.
var projectName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

// A project is what Mayfly needs of a Pulumi project file.
type project struct {
	name string
	// binary is the prebuilt program, relative to the scenario's directory;
	// empty if the scenario is Go source.
	binary string
	// manifest says that it is no program, but described in a manifest.
	manifest bool
}

// readProject reads the project file or the manifest in dir. Its errors are for
// the author.
func readProject(dir *os.Root) (project, error) {
	f, err := dir.Open("Pulumi.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		f, err = dir.Open("Pulumi.yml")
	}
	_, absent := dir.Lstat(manifest.File)
	switch {
	case err != nil && absent != nil:
		return project{}, errors.New("it has no Pulumi.yaml and no " + manifest.File)
	case err != nil:
		return readManifest(dir)
	}
	defer f.Close()
	if absent == nil {
		return project{}, errors.New("it has both a Pulumi.yaml and a " + manifest.File + ": remove the one that does not count")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxProjectFile+1))
	if err != nil {
		return project{}, fmt.Errorf("its Pulumi.yaml can't be read: %w", err)
	}
	if len(data) > maxProjectFile {
		return project{}, errors.New("its Pulumi.yaml is larger than 1 MiB")
	}
	p, err := parseProject(data)
	if err != nil {
		return project{}, fmt.Errorf("its Pulumi.yaml: %w", err)
	}
	if p.binary != "" {
		if info, err := dir.Lstat(p.binary); err != nil || !info.Mode().IsRegular() {
			return project{}, fmt.Errorf("its Pulumi.yaml: the artifact has no file %q, which runtime.options.binary names", p.binary)
		}
	}
	return p, nil
}

// readManifest checks the manifest in dir and the files that it names.
func readManifest(dir *os.Root) (project, error) {
	m, err := manifest.LoadRoot(dir)
	if err != nil {
		return project{}, err
	}
	return project{name: m.Name(), manifest: true}, nil
}

func parseProject(data []byte) (project, error) {
	var doc struct {
		Name    string    `yaml:"name"`
		Runtime yaml.Node `yaml:"runtime"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return project{}, err
	}
	if !projectName.MatchString(doc.Name) {
		return project{}, fmt.Errorf("name must be 1 to 100 letters, digits, dots, dashes and underscores, is %.100q", doc.Name)
	}
	binary, err := parseRuntime(&doc.Runtime)
	return project{name: doc.Name, binary: binary}, err
}

// parseRuntime reads "go" or {name: go, options: {binary: path}}.
func parseRuntime(node *yaml.Node) (binary string, err error) {
	var runtime struct {
		Name    string `yaml:"name"`
		Options struct {
			Binary yaml.Node `yaml:"binary"`
		} `yaml:"options"`
	}
	switch {
	case node.IsZero():
		return "", errors.New("runtime is missing")
	case node.Kind == yaml.ScalarNode:
		runtime.Name = node.Value
	default:
		if err := node.Decode(&runtime); err != nil {
			return "", fmt.Errorf("runtime: %w", err)
		}
	}
	if runtime.Name != "go" {
		return "", fmt.Errorf("unsupported runtime: %.100s: only go is", runtime.Name)
	}
	option := runtime.Options.Binary
	if option.IsZero() {
		return "", nil
	}
	if option.Kind != yaml.ScalarNode || option.Tag != "!!str" {
		return "", errors.New("runtime.options.binary must be a string")
	}
	name, err := checkTitle(option.Value)
	if err != nil {
		return "", fmt.Errorf("runtime.options.binary: the path %.100q %w", option.Value, err)
	}
	return path.Clean(name), nil
}
