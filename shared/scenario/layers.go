package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The bounds of what is fetched.
const (
	maxManifest = 4 << 20 // bytes
	maxFiles    = 10_000
	maxContent  = 1 << 30 // bytes, all files together
	maxTitle    = 1024    // bytes
	maxSegment  = 255     // bytes, as file systems have it
)

// unpackAnnotation marks a directory that ORAS packed into one archive.
const unpackAnnotation = "io.deis.oras.content.unpack"

// A file is one file of a scenario.
type file struct {
	// name is the path relative to the scenario's directory, with slashes.
	name string
	desc ocispec.Descriptor
}

// filesOf returns the files that a manifest lists: its titled layers. Its
// errors are for the author.
func filesOf(manifest []byte) ([]file, error) {
	var m struct {
		Layers []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("its manifest is not valid: %w", err)
	}
	var files []file
	var size int64
	for _, layer := range m.Layers {
		title, ok := layer.Annotations[ocispec.AnnotationTitle]
		if !ok {
			continue
		}
		f, err := fileOf(title, layer)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		if size += layer.Size; size > maxContent {
			return nil, fmt.Errorf("its files are larger than %d MiB together", maxContent>>20)
		}
		if len(files) > maxFiles {
			return nil, fmt.Errorf("it has more than %d files", maxFiles)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("it has no files: each must be a layer with the annotation " + ocispec.AnnotationTitle)
	}
	return files, checkNames(files)
}

func fileOf(title string, layer ocispec.Descriptor) (file, error) {
	name, err := checkTitle(title)
	if err != nil {
		return file{}, fmt.Errorf("the file name %.100q %w", title, err)
	}
	if layer.Annotations[unpackAnnotation] == "true" {
		return file{}, fmt.Errorf("%q is a packed directory: push its files one by one, or use 'mayfly scenario push'", name)
	}
	// The size is checked here as well, so that the sum can't overflow.
	if layer.Size < 0 || layer.Size > maxContent {
		return file{}, fmt.Errorf("the file %q must not have a size of %d bytes", name, layer.Size)
	}
	if err := layer.Digest.Validate(); err != nil {
		return file{}, fmt.Errorf("the file %q has no valid digest: %w", name, err)
	}
	return file{name: name, desc: layer}, nil
}

// checkTitle returns the path that a title means below the directory of the
// scenario.
func checkTitle(title string) (string, error) {
	switch {
	case len(title) > maxTitle:
		return "", fmt.Errorf("is longer than %d bytes", maxTitle)
	case !utf8.ValidString(title):
		return "", errors.New("is not valid UTF-8")
	case strings.ContainsFunc(title, unicode.IsControl):
		return "", errors.New("has control characters")
	case strings.HasPrefix(title, "/"):
		return "", errors.New("is an absolute path")
	}
	for segment := range strings.SplitSeq(title, "/") {
		if segment == ".." {
			return "", errors.New("leads out of the scenario's directory")
		}
		if len(segment) > maxSegment {
			return "", fmt.Errorf("has a part longer than %d bytes", maxSegment)
		}
	}
	name := path.Clean(title)
	if name == "." || strings.HasSuffix(title, "/") {
		return "", errors.New("names no file")
	}
	return name, nil
}

// checkNames refuses two files of one name, and a file below another.
func checkNames(files []file) error {
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		if seen[f.name] {
			return fmt.Errorf("it has the file %q twice", f.name)
		}
		seen[f.name] = true
	}
	for _, f := range files {
		for dir := path.Dir(f.name); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return fmt.Errorf("it has %q as a file and as a directory", dir)
			}
		}
	}
	return nil
}
