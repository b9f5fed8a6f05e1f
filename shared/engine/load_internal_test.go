package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// linux is what Linux reads of a program: its headers and the loader it names.
func linux(f *testing.F, machine elf.Machine, loader string) []byte {
	f.Helper()
	const size, entry = 64, 56
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: size, Ehsize: size, Phentsize: entry, Phnum: 1,
	}
	p := elf.Prog64{Type: uint32(elf.PT_INTERP), Off: size + entry, Filesz: uint64(len(loader)), Memsz: uint64(len(loader))}
	if loader == "" {
		p.Type = uint32(elf.PT_LOAD)
	}
	var out bytes.Buffer
	for _, part := range []any{h, p, []byte(loader)} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			f.Fatal(err)
		}
	}
	return out.Bytes()
}

// FuzzStrange has anything be a program that the kernel did not start. Why is
// told by what its bytes say where Linux looks: a script by its first line, a
// program by its machine and then by its loader. The file stays as it is.
func FuzzStrange(f *testing.F) {
	names := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, machine := range names {
		f.Add(linux(f, machine, ""))
		f.Add(linux(f, machine, "/lib64/ld-linux-x86-64.so.2\x00"))
		f.Add(linux(f, machine, strings.Repeat("/lib", maxInterpreter)+"\x00"))
	}
	f.Add(linux(f, elf.EM_RISCV, "/lib/ld-musl-riscv64.so.1\x00"))
	f.Add(linux(f, names[runtime.GOARCH], "/lib/ld.so\x00")[:118])
	for _, text := range []string{"", "cheese\n", "#!/bin/sh -e\n#!/x\n", "#! /usr/bin/env python3", "#!\n/bin/sh", "#!" + strings.Repeat(" ", maxInterpreter) + "/x", "#! \v/bin/\xff\n"} {
		f.Add([]byte(text))
	}
	file := filepath.Join(f.TempDir(), "main")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got := strange(file)
		if is, err := os.ReadFile(file); err != nil || !bytes.Equal(is, content) {
			t.Errorf("the file is now %q, %v", is, err)
		}
		if !readable(content) {
			first, _, _ := bytes.Cut(content[:min(len(content), maxInterpreter)], []byte("\n"))
			words := strings.Fields(strings.TrimPrefix(string(first), "#!"))
			want := "main is no Linux program"
			if bytes.HasPrefix(first, []byte("#!")) && len(words) > 0 {
				want = "main is a script for " + words[0] + ", which this server does not have, or does not let it run"
			}
			if got != want {
				t.Errorf("%q: %s, want %s", content, got, want)
			}
			return
		}
		if elf.Class(content[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(content[elf.EI_DATA]) != elf.ELFDATA2LSB {
			if !strings.HasPrefix(got, "main is built for ") {
				t.Errorf("no machine that we have reads it so: %q", got)
			}
			return
		}
		if elf.Machine(content[18])|elf.Machine(content[19])<<8 != names[runtime.GOARCH] {
			if !strings.HasPrefix(got, "main is built for ") || strings.HasPrefix(got, "main is built for "+runtime.GOARCH+",") {
				t.Errorf("it is for another machine, and %q", got)
			}
			return
		}
		want := ""
		if loader := loaderIn(content); loader != "" {
			want = "main needs the loader " + loader + ", which this server does not have, or does not let it run"
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// readable tells whether it is a program to Go.
func readable(content []byte) bool {
	_, err := elf.NewFile(bytes.NewReader(content))
	return err == nil
}

// loaderIn reads the program headers byte by byte, as the kernel does.
func loaderIn(content []byte) string {
	number := binary.LittleEndian
	table, size, count := number.Uint64(content[32:]), number.Uint16(content[54:]), number.Uint16(content[56:])
	for n := range uint64(count) {
		header := content[table+n*uint64(size):]
		if elf.ProgType(number.Uint32(header)) != elf.PT_INTERP {
			continue
		}
		from, length := number.Uint64(header[8:]), number.Uint64(header[32:])
		if from >= uint64(len(content)) {
			return ""
		}
		path := content[from:]
		path = path[:min(length, uint64(len(path)), maxInterpreter)]
		return strings.TrimRight(string(path), "\x00")
	}
	return ""
}

// FuzzNotLoaded has a loader miss anything, in the words of glibc and musl, and
// programs print anything. What is missing is named, and a program that has run
// is never said not to have.
func FuzzNotLoaded(f *testing.F) {
	f.Add(127, "libcheese.so.1", "", "CHEESE_2")
	f.Add(1, "/opt/libcheese.so", "panic: boom\n\ngoroutine 1 [running]:\n", "GLIBC_2.38")
	f.Add(127, "é", "./main: line 1: error while loading shared libraries: ", "x")
	f.Add(2, "lib", "symbol lookup error: version `", "v")
	f.Fuzz(func(t *testing.T, code int, name, noise, version string) {
		exit := &exitError{code: code}
		for _, marker := range []string{"oading shared libra", "Error ", "symbol", "version"} {
			if strings.Contains(noise, marker) {
				return // it may be what a loader says
			}
		}
		if err := notLoaded(exit, noise); err != nil {
			t.Errorf("it ran, printed %q, and: %v", noise, err)
		}
		if strings.ContainsAny(name, ":, /'`") || name == "" || len(strings.Fields(name)) != 1 || strings.Fields(name)[0] != name || name == "." ||
			version == "" || len(strings.Fields(version)) != 1 || strings.Fields(version)[0] != version || strings.Contains(version, "'") {
			return // not what loaders put between these
		}
		for _, c := range []struct {
			code       int
			said, want string
		}{
			{codeNotLoaded, "./main: error while loading shared libraries: " + name + ": cannot open shared object file: No such file or directory", "the library " + name + ","},
			{codeNotLoaded, "Error loading shared library " + name + ": No such file or directory (needed by ./main)", "the library " + name + ","},
			{codeNotLoaded, "./main: symbol lookup error: ./main: undefined symbol: " + name + ", version " + version, "the symbol " + name + ","},
			{codeNotLoaded, "Error relocating ./main: " + name + ": symbol not found", "the symbol " + name + ","},
			{1, "./main: /lib/" + name + ": version `" + version + "' not found (required by ./main)", version + " of the library " + name + ","},
		} {
			said := noise + "\n" + c.said + "\n"
			if err := notLoaded(&exitError{code: c.code}, said); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: %v, want one that has %q", said, err, c.want)
			}
			if _, typed := errors.AsType[*loadError](notLoaded(exit, said)); typed != (code == c.code) {
				t.Errorf("with code %d, %q is what a loader says: %t", code, said, typed)
			}
		}
	})
}
