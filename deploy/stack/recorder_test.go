package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/urn"
)

// A recorder is a provider whose objects are files in a directory, by kind and
// name, as JSON; a Namespace takes what is in it along. The file calls has what
// was done, in order.
type recorder struct {
	plugin.UnimplementedProvider
	dir string
	mu  sync.Mutex
}

func id(u urn.URN) resource.ID {
	return resource.ID(strings.ReplaceAll(string(u.Type().Name())+" "+u.Name(), "/", " "))
}

func (r *recorder) did(verb string, u urn.URN, props resource.PropertyMap) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls, err := os.OpenFile(filepath.Join(r.dir, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer calls.Close()
	if _, err := fmt.Fprintln(calls, verb, id(u)); err != nil {
		return err
	}
	file := filepath.Join(r.dir, string(id(u)))
	if props == nil && u.Type().Name() == "Namespace" {
		if err := r.empty(u.Name()); err != nil {
			return err
		}
	}
	if props == nil {
		return os.Remove(file)
	}
	text, err := json.Marshal(plain(resource.NewProperty(props)))
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// empty removes what is in a namespace.
func (r *recorder) empty(namespace string) error {
	files, err := filepath.Glob(filepath.Join(r.dir, "* "+namespace+" *"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// plain is a value without wraps; secrets say that they are.
func plain(v resource.PropertyValue) any {
	return v.MapRepl(nil, func(v resource.PropertyValue) (any, bool) {
		if v.IsSecret() {
			return map[string]any{"secret": plain(v.SecretValue().Element)}, true
		}
		if v.IsOutput() {
			return plain(v.OutputValue().Element), true
		}
		return nil, false
	})
}

// Handshake takes secrets as such.
func (r *recorder) Handshake(context.Context, plugin.ProviderHandshakeRequest) (*plugin.ProviderHandshakeResponse, error) {
	return &plugin.ProviderHandshakeResponse{AcceptSecrets: true, AcceptOutputs: true}, nil
}

func (r *recorder) CheckConfig(_ context.Context, q plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	return plugin.CheckConfigResponse{Properties: q.News}, nil
}

func (r *recorder) DiffConfig(context.Context, plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	return plugin.DiffConfigResponse{Changes: plugin.DiffNone}, nil
}

func (r *recorder) Configure(context.Context, plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	return plugin.ConfigureResponse{}, nil
}

func (r *recorder) Check(_ context.Context, q plugin.CheckRequest) (plugin.CheckResponse, error) {
	return plugin.CheckResponse{Properties: q.News}, nil
}

func (r *recorder) Diff(_ context.Context, q plugin.DiffRequest) (plugin.DiffResponse, error) {
	if q.OldInputs.DeepEquals(q.NewInputs) {
		return plugin.DiffResponse{Changes: plugin.DiffNone}, nil
	}
	return plugin.DiffResponse{Changes: plugin.DiffSome}, nil
}

func (r *recorder) Create(_ context.Context, q plugin.CreateRequest) (plugin.CreateResponse, error) {
	out := q.Properties.Copy()
	if q.Preview {
		return plugin.CreateResponse{Properties: out}, nil
	}
	out["status"] = resource.NewProperty(resource.PropertyMap{"url": resource.NewProperty("http://" + q.URN.Name())})
	return plugin.CreateResponse{ID: id(q.URN), Properties: out}, r.did("create", q.URN, q.Properties)
}

func (r *recorder) Update(_ context.Context, q plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	return plugin.UpdateResponse{Properties: q.NewInputs}, r.did("update", q.URN, q.NewInputs)
}

func (r *recorder) Read(_ context.Context, q plugin.ReadRequest) (plugin.ReadResponse, error) {
	_, err := os.Stat(filepath.Join(r.dir, string(id(q.URN))))
	if errors.Is(err, fs.ErrNotExist) {
		return plugin.ReadResponse{}, nil
	}
	return plugin.ReadResponse{ReadResult: plugin.ReadResult{ID: id(q.URN), Inputs: q.Inputs, Outputs: q.State}}, err
}

func (r *recorder) Delete(_ context.Context, q plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	return plugin.DeleteResponse{}, r.did("delete", q.URN, nil)
}

func (r *recorder) SignalCancellation(context.Context) error { return nil }
func (r *recorder) Close() error                             { return nil }
