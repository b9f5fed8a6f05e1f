package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// program is one of nothing but headers, with or without a loader.
func program(f *testing.F, kind elf.Type, machine elf.Machine, segment elf.ProgType) []byte {
	f.Helper()
	const size, entry = 64, 56
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(kind), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: size, Ehsize: size, Phentsize: entry, Phnum: 1,
	}
	var out bytes.Buffer
	for _, part := range []any{h, elf.Prog64{Type: uint32(segment)}} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			f.Fatal(err)
		}
	}
	return out.Bytes()
}

// FuzzLintBinary has anything be the program of a scenario. What its first
// bytes say is found, and every finding tells what to do.
func FuzzLintBinary(f *testing.F) {
	for _, kind := range []elf.Type{elf.ET_EXEC, elf.ET_DYN, elf.ET_CORE, 99} {
		for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64, elf.EM_RISCV, 0xffff} {
			f.Add(program(f, kind, machine, elf.PT_INTERP))
			f.Add(program(f, kind, machine, elf.PT_LOAD))
		}
	}
	f.Add([]byte("#!/bin/sh\n"))
	f.Add([]byte(nil))
	f.Add([]byte("MZ\x90"))
	f.Add([]byte("\x7fELF"))
	file := filepath.Join(f.TempDir(), "main")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		found := lintBinary(file)
		has := func(rule string) bool {
			return slices.ContainsFunc(found, func(f manifest.Finding) bool { return f.Rule == rule })
		}
		for _, one := range found {
			if one.Line != 1 || one.Column != 1 || one.Severity == "" || one.Message == "" || one.Fix == "" {
				t.Errorf("half a finding: %+v", one)
			}
		}
		if !bytes.HasPrefix(content, []byte(elf.ELFMAG)) || len(content) < 20 {
			if len(found) != 1 || !has("not-linux") {
				t.Errorf("it is no program, and found is %v", found)
			}
			return
		}
		order := binary.ByteOrder(binary.LittleEndian)
		if elf.Data(content[elf.EI_DATA]) == elf.ELFDATA2MSB {
			order = binary.BigEndian
		}
		kind, machine := elf.Type(order.Uint16(content[16:])), elf.Machine(order.Uint16(content[18:]))
		if kind != elf.ET_EXEC && kind != elf.ET_DYN && !has("not-linux") {
			t.Errorf("it is no program but %s, and found is %v", kind, found)
		}
		names := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
		if !has("not-linux") && has("architecture") == (machine == names[runtime.GOARCH]) {
			t.Errorf("it is for %s, and found is %v", machine, found)
		}
	})
}
