package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

func TestInitBeginsACleanScenario(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "My Challenge!")
	code, out, diagnostics := mayfly(t, "scenario", "init", dir)
	if code != exitOK || !strings.Contains(out, "mayfly scenario try") {
		t.Fatalf("exit code %d: %s%s", code, out, diagnostics)
	}
	text, err := os.ReadFile(filepath.Join(dir, manifest.File))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("# yaml-language-server: $schema="+schemaFile+"\n")) {
		t.Errorf("editors do not find the schema: %.80s", text)
	}
	m, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name() != "my-challenge" {
		t.Errorf("its name is %q", m.Name())
	}
	if code, out, _ := mayfly(t, "scenario", "lint", "--strict", dir); code != exitOK || !strings.Contains(out, "nothing to improve") {
		t.Errorf("it does not lint clean: %s", out)
	}
	_, schema, _ := mayfly(t, "scenario", "schema")
	if beside, err := os.ReadFile(filepath.Join(dir, schemaFile)); err != nil || string(beside) != schema || schema == "" {
		t.Errorf("the schema beside it is not the one that is printed: %v", err)
	}
}

func TestInitOverwritesNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{manifest.File, "Pulumi.yaml"} {
		dir := t.TempDir()
		write(t, dir, name, "mine")
		code, _, diagnostics := mayfly(t, "scenario", "init", dir)
		if code != exitFailed || !strings.Contains(diagnostics, name) {
			t.Errorf("with %s: exit code %d: %s", name, code, diagnostics)
		}
		files, err := os.ReadDir(dir)
		if text, _ := os.ReadFile(filepath.Join(dir, name)); err != nil || len(files) != 1 || string(text) != "mine" {
			t.Errorf("%s is overwritten or not alone: %q, %v, %v", name, text, files, err)
		}
	}
	dir := t.TempDir()
	write(t, dir, schemaFile, "mine")
	if code, _, diagnostics := mayfly(t, "scenario", "init", dir); code != exitOK {
		t.Errorf("beside a schema: exit code %d: %s", code, diagnostics)
	}
}

func TestInitSecretsDiffer(t *testing.T) {
	t.Parallel()
	secret := func() string {
		dir := t.TempDir()
		if code, _, diagnostics := mayfly(t, "scenario", "init", dir); code != exitOK {
			t.Fatal(diagnostics)
		}
		text, err := os.ReadFile(filepath.Join(dir, manifest.File))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(text), "\nsecret: ")
		line, _, _ := strings.Cut(after, "\n")
		return line
	}
	if one, two := secret(), secret(); one == two || len(one) < 32 {
		t.Errorf("secrets are %q and %q", one, two)
	}
}
