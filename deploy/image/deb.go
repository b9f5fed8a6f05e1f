package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"
)

const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // bytes before each member
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
	var files []File
	for r := tar.NewReader(plain); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("data.tar.xz: %w", err)
		}
		f := File{Name: strings.TrimPrefix(path.Clean(header.Name), "/"), Mode: header.Mode & 0o7777}
		switch header.Typeflag {
		case tar.TypeReg:
			if f.Content, err = io.ReadAll(r); err != nil {
				return nil, fmt.Errorf("data.tar.xz: %s: %w", f.Name, err)
			}
		case tar.TypeSymlink:
			f.Link = header.Linkname
		case tar.TypeDir:
			f.Directory = true
		default:
			return nil, fmt.Errorf("data.tar.xz: %s is of an unknown type %q", f.Name, header.Typeflag)
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
