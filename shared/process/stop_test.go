package process_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/process"
)

func TestDeleteEndsChildren(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	r := create(t, p, "riddle", role("family"))
	text, err := os.ReadFile(filepath.Join(dir, string(r.ID), "work", "children"))
	ok(t, err)
	children := strings.Fields(string(text))
	if len(children) != 2 {
		t.Fatalf("children: %v", children)
	}
	remove(t, p, "riddle", r)
	for _, c := range children {
		if child, _ := strconv.Atoi(c); running(child) {
			t.Errorf("child %s still runs", c)
		}
	}
}

func TestDeleteStubborn(t *testing.T) {
	t.Parallel()
	p := newProvider(t, process.Options{})
	r := create(t, p, "riddle", role("stubborn"))
	began := time.Now()
	remove(t, p, "riddle", r)
	if took := time.Since(began); took < 5*time.Second || running(pid(r.Properties)) {
		t.Errorf("after %v it runs: %v", took, running(pid(r.Properties)))
	}
}

// A program whose first thread has ended looks like a zombie, and runs.
func TestDeleteHeadless(t *testing.T) {
	t.Parallel()
	p := newProvider(t, process.Options{})
	r := create(t, p, "riddle", role("headless"))
	if greeting(t, r.Properties) == "" {
		t.Fatal("it does not run")
	}
	remove(t, p, "riddle", r)
	if got := greeting(t, r.Properties); got != "" {
		t.Errorf("after the deletion it says %q", got)
	}
}

func TestDeleteWithoutDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	r := create(t, p, "riddle", role("serve"))
	ok(t, os.RemoveAll(filepath.Join(dir, identity)))
	remove(t, p, "riddle", r)
	if running(pid(r.Properties)) {
		t.Error("the program is not found by what the outputs say")
	}
}

func TestDeleteSparesRecycledPID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	bystander := create(t, p, "bystander", role("serve"))
	victim := create(t, p, "riddle", role("serve"))
	for key, v := range map[resource.PropertyKey]resource.PropertyValue{
		"startTime": resource.NewProperty("1"),
		"bootId":    resource.NewProperty("another-boot"),
	} {
		// As if the pid of the one had become the other's.
		stale := victim
		stale.Properties = with(victim.Properties, "pid", bystander.Properties["pid"])
		stale.Properties[key] = v
		ok(t, os.Rename(filepath.Join(dir, string(victim.ID)), filepath.Join(dir, "aside")))
		if got := read(t, p, "riddle", victim.ID, role("serve"), stale.Properties); got.ID != "" {
			t.Errorf("read with a stale %s = %v", key, got)
		}
		remove(t, p, "riddle", stale)
		if !running(pid(bystander.Properties)) {
			t.Fatalf("deletion with a stale %s stopped somebody else", key)
		}
		ok(t, os.Rename(filepath.Join(dir, "aside"), filepath.Join(dir, string(victim.ID))))
	}
}

// A record that names nobody is no record of a program that has ended: what it
// was about may run, and its directory stays.
func TestDeleteWithDamagedRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	r := create(t, p, "riddle", role("serve"))
	path := filepath.Join(dir, string(r.ID), "record.json")
	whole, err := os.ReadFile(path)
	ok(t, err)
	for _, damaged := range []string{"", "null", "{}", `{"marker":"M","bootId":"b"}`, string(whole[:len(whole)/2])} {
		ok(t, os.WriteFile(path, []byte(damaged), 0o600))
		_, err := p.Delete(t.Context(), plugin.DeleteRequest{URN: urn(identity, "riddle"), ID: r.ID, Outputs: r.Properties})
		if err == nil || !strings.Contains(err.Error(), "read the record of "+string(r.ID)) {
			t.Errorf("deleted with the record %q: %v", damaged, err)
		}
		if _, err := os.Stat(path); err != nil || !running(pid(r.Properties)) {
			t.Fatalf("with the record %q it runs: %v, and is on record: %v", damaged, running(pid(r.Properties)), err)
		}
	}
	ok(t, os.WriteFile(path, whole, 0o600))
	remove(t, p, "riddle", r)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	create(t, p, "a", role("serve"))
	create(t, p, "b", role("serve"))
	other, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn("ffffffffffffffff", "a"), Properties: role("serve")})
	ok(t, err)
	for range 2 {
		if err := p.Sweep(t.Context(), identity); err != nil {
			t.Fatal(err)
		}
	}
	if got := carriers(t, dir); len(got) != 1 || got[0] != strconv.Itoa(pid(other.Properties)) {
		t.Errorf("running = %v, want %d alone", got, pid(other.Properties))
	}
	for _, bad := range []ctf.Identity{"", "..", "a/b", ".lock"} {
		if err := p.Sweep(t.Context(), bad); err == nil {
			t.Errorf("sweep of %q is no error", bad)
		}
	}
}
