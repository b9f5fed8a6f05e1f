package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A File is one entry of an image. It belongs to root, and its time is 1970.
type File struct {
	// Name is its path, without a leading slash.
	Name string
	Mode int64
	// One of these says what it is; none is an empty file.
	Content   []byte
	Source    string // a file of this machine
	Link      string // where a symbolic link points to
	Directory bool
}

// newLayer packs files, with the directories that they need.
func newLayer(files []File) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range withDirectories(files) {
		if err := write(w, f); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

// withDirectories returns files sorted, each after the directories it is in.
func withDirectories(files []File) []File {
	all := map[string]File{}
	for _, f := range files {
		for dir := path.Dir(f.Name); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = File{Name: dir, Mode: 0o755, Directory: true}
			}
		}
		all[f.Name] = f
	}
	sorted := make([]File, 0, len(all))
	for _, f := range all {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return sorted
}

func write(w *tar.Writer, f File) error {
	if f.Source != "" {
		var err error
		if f.Content, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	header := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	switch {
	case f.Directory:
		header.Typeflag, header.Name = tar.TypeDir, f.Name+"/"
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if _, err := w.Write(f.Content); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}
