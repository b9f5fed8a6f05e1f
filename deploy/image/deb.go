package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"
)

const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // bytes before each member

	maxUnpacked = 64 << 20 // bytes of all files of a package
)

// unpack returns the files of a Debian package: an ar archive whose member
// data.tar.xz has them.
func unpack(deb []byte) ([]File, error) {
	data, err := member(deb, "data.tar.xz")
	if err != nil {
		return nil, err
	}
	plain, err := xz.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("data.tar.xz: %w", err)
	}
	files, err := entries(plain)
	if err != nil {
		return nil, fmt.Errorf("data.tar.xz: %w", err)
	}
	return files, nil
}

// entries returns what is in a tar archive.
func entries(archive io.Reader) ([]File, error) {
	var files []File
	left := int64(maxUnpacked)
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		f := File{Name: path.Clean(strings.TrimLeft(header.Name, "/")), Mode: header.Mode & 0o7777}
		if !fs.ValidPath(f.Name) {
			return nil, fmt.Errorf("%q lies outside", header.Name)
		}
		// A sparse file is as long as its header says, however little is stored.
		if left -= header.Size; left < 0 {
			return nil, fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
		}
		switch header.Typeflag {
		case tar.TypeReg:
			if f.Content, err = io.ReadAll(r); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
		case tar.TypeSymlink:
			f.Link = header.Linkname
		case tar.TypeDir:
			f.Directory = true
		default:
			return nil, fmt.Errorf("%s is of an unknown type %q", f.Name, header.Typeflag)
		}
		files = append(files, f)
	}
}

// member returns one file of an ar archive.
func member(archive []byte, name string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(archive, []byte(arMagic))
	if !ok {
		return nil, errors.New("it is no Debian package")
	}
	for len(rest) >= arHeader {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || size < 0 || size > len(rest)-arHeader {
			return nil, errors.New("it is a broken Debian package")
		}
		content := rest[arHeader : arHeader+size]
		if strings.TrimRight(strings.TrimSpace(string(rest[:16])), "/") == name {
			return content, nil
		}
		rest = rest[min(arHeader+size+size%2, len(rest)):]
	}
	return nil, fmt.Errorf("it is a Debian package without %s", name)
}
