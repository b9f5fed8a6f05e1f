package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"testing"

	"github.com/ulikunitz/xz"
)

// packed is a Debian package with a data.tar.xz that unpacks to something.
func packed(f *testing.F, content []byte) []byte {
	f.Helper()
	var data bytes.Buffer
	w, err := xz.NewWriter(&data)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	deb := bytes.NewBufferString(arMagic)
	for name, content := range map[string]string{"debian-binary": "2.0\n", "data.tar.xz/": data.String()} {
		fmt.Fprintf(deb, "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", name, 0, 0, 0, 0o100644, len(content), content)
		if len(content)%2 == 1 {
			deb.WriteByte('\n')
		}
	}
	return deb.Bytes()
}

// archived is a tar of one entry, without the blocks that tell its end.
func archived(f *testing.F, h tar.Header) []byte {
	f.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&h); err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write(make([]byte, h.Size)); err != nil {
		f.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		f.Fatal(err)
	}
	return archive.Bytes()
}

// FuzzUnpack reads anything as a Debian package.
func FuzzUnpack(f *testing.F) {
	deb := packed(f, archived(f, tar.Header{Name: "./a", Typeflag: tar.TypeReg, Size: 3}))
	f.Add(deb)
	f.Add(deb[:200])
	f.Add([]byte(arMagic + "data.tar.xz     0           0     0     100644  -1        `\n"))
	f.Add([]byte(arMagic + "data.tar.xz     0           0     0     100644  1         `\nx"))
	f.Add([]byte(arMagic + "x               0           0     0     100644  1         `\nx\n" + "data.tar.xz/    0           0     0     100644  0         `\n"))
	f.Fuzz(func(t *testing.T, deb []byte) {
		if content, err := member(deb, "data.tar.xz"); err == nil && !bytes.Contains(deb, content) {
			t.Errorf("%q is none of it", content)
		}
		files, err := unpack(deb)
		wantFiles(t, files, err)
	})
}

// FuzzEntries reads anything as the archive that is in a Debian package.
func FuzzEntries(f *testing.F) {
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "./usr/lib/a", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 3},
		{Name: "./b", Typeflag: tar.TypeSymlink, Linkname: "../usr"}, {Name: "../c", Typeflag: tar.TypeReg},
		{Name: "/d", Typeflag: tar.TypeReg, Uname: "ü", Format: tar.FormatPAX}, {Name: "e", Typeflag: tar.TypeLink, Linkname: "d"},
		{Name: "f", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"comment": "x"}},
	} {
		f.Add(archived(f, h))
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		files, err := entries(bytes.NewReader(archive))
		wantFiles(t, files, err)
	})
}

// wantFiles fails unless files lie inside of an image, and are one thing each, of
// a size that was looked at.
func wantFiles(t *testing.T, files []File, err error) {
	t.Helper()
	if err != nil && files != nil {
		t.Errorf("%d files and an error: %v", len(files), err)
	}
	total := 0
	for _, file := range files {
		if total += len(file.Content); !fs.ValidPath(file.Name) || file.Mode&^0o7777 != 0 {
			t.Errorf("%q, mode %o", file.Name, file.Mode)
		}
		if file.Directory && (file.Link != "" || file.Content != nil) || file.Link != "" && file.Content != nil {
			t.Errorf("%q is several things at once", file.Name)
		}
	}
	if total > maxUnpacked {
		t.Errorf("%d bytes", total)
	}
}
