package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/urn"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A disk is a provider whose resources are files, at root/identity/name. It
// refuses to make what is there. Files in root are its switches, each a verb
// and the resource's name: "slow-create-a" holds the call up before it does
// anything, "hold-create-a" after it did, "fail-create-a" has it fail halfway.
// root/calls names every change, in order.
type disk struct {
	plugin.UnimplementedProvider
	root string
}

func newDisk(root string) (*disk, error) {
	if root == "" {
		return nil, errors.New("no root")
	}
	return &disk{root: root}, nil
}

func (d *disk) path(u urn.URN) string {
	return filepath.Join(d.root, u.Stack().String(), u.Name())
}

func (d *disk) called(ctx context.Context, verb string, u urn.URN) error {
	calls, err := os.OpenFile(filepath.Join(d.root, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer calls.Close()
	if _, err := fmt.Fprintln(calls, verb, u.Name()); err != nil {
		return err
	}
	return d.wait(ctx, "slow", verb, u)
}

func (d *disk) wait(ctx context.Context, how, verb string, u urn.URN) error {
	for d.switched(how, verb, u) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (d *disk) switched(how, verb string, u urn.URN) bool {
	_, err := os.Stat(filepath.Join(d.root, how+"-"+verb+"-"+u.Name()))
	return err == nil
}

// finish is the end of each change.
func (d *disk) finish(ctx context.Context, verb string, u urn.URN) error {
	if d.switched("fail", verb, u) {
		return errors.New("the disk is on fire")
	}
	return d.wait(ctx, "hold", verb, u)
}

func (d *disk) Configure(context.Context, plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	return plugin.ConfigureResponse{}, nil
}

func (d *disk) CheckConfig(_ context.Context, r plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	return plugin.CheckConfigResponse{Properties: r.News}, nil
}

func (d *disk) DiffConfig(context.Context, plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	return plugin.DiffResult{Changes: plugin.DiffNone}, nil
}

func (d *disk) Check(_ context.Context, r plugin.CheckRequest) (plugin.CheckResponse, error) {
	return plugin.CheckResponse{Properties: r.News}, nil
}

func (d *disk) Diff(_ context.Context, r plugin.DiffRequest) (plugin.DiffResponse, error) {
	if !r.OldInputs["kind"].DeepEquals(r.NewInputs["kind"]) {
		return plugin.DiffResult{Changes: plugin.DiffSome, ReplaceKeys: []resource.PropertyKey{"kind"}}, nil
	}
	if !r.OldInputs.DeepEquals(r.NewInputs) {
		return plugin.DiffResult{Changes: plugin.DiffSome}, nil
	}
	return plugin.DiffResult{Changes: plugin.DiffNone}, nil
}

func (d *disk) Create(ctx context.Context, r plugin.CreateRequest) (plugin.CreateResponse, error) {
	if r.Preview {
		return plugin.CreateResponse{Properties: r.Properties}, nil
	}
	if err := d.called(ctx, "create", r.URN); err != nil {
		return plugin.CreateResponse{}, err
	}
	if err := os.MkdirAll(filepath.Dir(d.path(r.URN)), 0o700); err != nil {
		return plugin.CreateResponse{}, err
	}
	f, err := os.OpenFile(d.path(r.URN), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	defer f.Close()
	if _, err := f.WriteString(content(r.Properties)); err != nil {
		return plugin.CreateResponse{}, err
	}
	if err := d.finish(ctx, "create", r.URN); err != nil {
		return plugin.CreateResponse{}, err
	}
	return plugin.CreateResponse{ID: resource.ID(r.URN.Name()), Properties: d.outputs(r.URN, r.Properties)}, nil
}

func (d *disk) Update(ctx context.Context, r plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	if r.Preview {
		return plugin.UpdateResponse{Properties: r.NewInputs}, nil
	}
	if err := d.called(ctx, "update", r.URN); err != nil {
		return plugin.UpdateResponse{}, err
	}
	if err := os.WriteFile(d.path(r.URN), []byte(content(r.NewInputs)), 0o600); err != nil {
		return plugin.UpdateResponse{}, err
	}
	if err := d.finish(ctx, "update", r.URN); err != nil {
		return plugin.UpdateResponse{}, err
	}
	return plugin.UpdateResponse{Properties: d.outputs(r.URN, r.NewInputs)}, nil
}

func (d *disk) Delete(ctx context.Context, r plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	if err := d.called(ctx, "delete", r.URN); err != nil {
		return plugin.DeleteResponse{}, err
	}
	if err := os.Remove(d.path(r.URN)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return plugin.DeleteResponse{}, err
	}
	return plugin.DeleteResponse{}, d.finish(ctx, "delete", r.URN)
}

func (d *disk) Read(_ context.Context, r plugin.ReadRequest) (plugin.ReadResponse, error) {
	if _, err := os.Stat(d.path(r.URN)); errors.Is(err, os.ErrNotExist) {
		return plugin.ReadResponse{}, nil
	} else if err != nil {
		return plugin.ReadResponse{}, err
	}
	return plugin.ReadResponse{ReadResult: plugin.ReadResult{
		ID: resource.ID(r.URN.Name()), Inputs: r.Inputs, Outputs: d.outputs(r.URN, r.Inputs),
	}}, nil
}

// Sweep removes whatever the instance left.
func (d *disk) Sweep(_ context.Context, identity ctf.Identity) error {
	if _, err := os.Stat(filepath.Join(d.root, "fail-sweep")); err == nil {
		return errors.New("the broom is broken")
	}
	return os.RemoveAll(filepath.Join(d.root, string(identity)))
}

func (d *disk) outputs(u urn.URN, inputs resource.PropertyMap) resource.PropertyMap {
	out := inputs.Copy()
	out["path"] = resource.NewProperty(d.path(u))
	return out
}

func content(inputs resource.PropertyMap) string {
	v := inputs["content"]
	if v.IsSecret() {
		v = v.SecretValue().Element
	}
	return v.StringValue()
}

// turn sets switches; the function it returns resets them.
func (s *site) turn(switches ...string) (reset func()) {
	for _, name := range switches {
		if err := os.WriteFile(filepath.Join(s.disk, name), nil, 0o600); err != nil {
			panic(err)
		}
	}
	return func() {
		for _, name := range switches {
			_ = os.Remove(filepath.Join(s.disk, name))
		}
	}
}

// calls is every change so far.
func (s *site) calls() string {
	raw, _ := os.ReadFile(filepath.Join(s.disk, "calls"))
	return strings.Join(strings.Split(strings.TrimSpace(string(raw)), "\n"), ", ")
}

// files is what the instance has on the disk, name=content.
func (s *site) files(id ctf.Identity) string {
	var found []string
	entries, _ := os.ReadDir(filepath.Join(s.disk, string(id)))
	for _, entry := range entries {
		raw, _ := os.ReadFile(filepath.Join(s.disk, string(id), entry.Name()))
		found = append(found, entry.Name()+"="+string(raw))
	}
	return strings.Join(found, " ")
}
