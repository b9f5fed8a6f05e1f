package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// A contested API server answers every other change with a conflict.
type contested struct {
	// meanwhile is what somebody else does before a change is refused, if it is there.
	meanwhile func(at string)

	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured // by path
	changes int
	made    int
}

func (c *contested) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer, err := c.answer(r)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := err.Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.WriteHeader(int(status.Code))
		answer = status
	}
	_ = json.NewEncoder(w).Encode(answer) // whoever asked may have left
}

func (c *contested) answer(r *http.Request) (any, *apierrors.StatusError) {
	at := r.URL.Path
	kind := schema.GroupResource{Resource: path.Base(path.Dir(at))}
	if r.Method != http.MethodGet {
		if c.changes++; c.changes%2 == 1 {
			if c.meanwhile != nil {
				c.meanwhile(at)
			}
			return nil, apierrors.NewConflict(kind, path.Base(at), errors.New("the object has been modified; please apply your changes to the latest version and try again"))
		}
	}
	live := c.objects[at]
	if live == nil && r.Method != http.MethodPatch {
		return nil, apierrors.NewNotFound(kind, path.Base(at))
	}
	switch r.Method {
	case http.MethodPatch:
		object := &unstructured.Unstructured{}
		if err := json.NewDecoder(r.Body).Decode(&object.Object); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		switch {
		case live == nil:
			c.made++
			object.SetUID(types.UID(fmt.Sprint(c.made)))
		case object.GetUID() != "" && object.GetUID() != live.GetUID():
			return nil, apierrors.NewConflict(kind, path.Base(at), errors.New("uid mismatch"))
		default:
			object.SetUID(live.GetUID())
		}
		if !r.URL.Query().Has("dryRun") {
			c.objects[at] = object
		}
		return object, nil
	case http.MethodDelete:
		var options metav1.DeleteOptions
		if err := json.NewDecoder(r.Body).Decode(&options); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if *options.Preconditions.UID != live.GetUID() {
			return nil, apierrors.NewConflict(kind, path.Base(at), errors.New("the UID in the precondition does not match"))
		}
		delete(c.objects, at)
		return metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}, nil
	}
	return live, nil
}

// provider returns one of an instance in the namespace space.
func (c *contested) provider(t *testing.T) *Provider {
	t.Helper()
	space := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	space.SetName("space")
	c.objects = map[string]*unstructured.Unstructured{"/api/v1/namespaces/space": space}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	cluster, err := newCluster(&rest.Config{Host: server.URL}, "space")
	check(t, err)
	p, err := NewProvider(Options{Cluster: cluster})
	check(t, err)
	t.Cleanup(func() { check(t, p.Close()) })
	return p
}

// at returns a ConfigMap by its name.
func (c *contested) at(name string) *unstructured.Unstructured {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects["/api/v1/namespaces/space/configmaps/"+name]
}

// settings is a ConfigMap that holds a word, and its URN.
func settings(word string) (resource.URN, resource.PropertyMap) {
	urn := resource.NewURN("identity", "project", "", "kubernetes:core/v1:ConfigMap", "settings")
	return urn, resource.NewPropertyMapFromMap(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "settings", "namespace": "space"},
		"data": map[string]any{"word": word},
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A conflict is neither a name that is taken, nor a refusal, nor tells that what
// is to go is gone: whoever meets one looks anew.
func TestConflicts(t *testing.T) {
	t.Parallel()
	c := &contested{}
	p := c.provider(t)
	urn, one := settings("one")
	_, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn, Properties: one, Preview: true})
	check(t, err)
	created, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn, Properties: one})
	check(t, err)
	_, two := settings("two")
	d, err := p.Diff(t.Context(), plugin.DiffRequest{
		URN: urn, ID: created.ID, OldInputs: one, OldOutputs: created.Properties, NewInputs: two,
	})
	check(t, err)
	if d.Changes != plugin.DiffSome || len(d.ReplaceKeys) > 0 {
		t.Errorf("the difference is %+v", d)
	}
	updated, err := p.Update(t.Context(), plugin.UpdateRequest{URN: urn, ID: created.ID, OldInputs: one, OldOutputs: created.Properties, NewInputs: two})
	check(t, err)
	if word, _, _ := unstructured.NestedString(c.at("settings").Object, "data", "word"); word != "two" {
		t.Errorf("it says %q", word)
	}
	if uidOf(updated.Properties) != uidOf(created.Properties) {
		t.Error("it was made anew")
	}
	_, err = p.Delete(t.Context(), plugin.DeleteRequest{URN: urn, ID: created.ID, Inputs: two, Outputs: updated.Properties})
	check(t, err)
	if c.at("settings") != nil {
		t.Error("it is deleted, and there")
	}
}

// What somebody else makes between the look and the change is theirs.
func TestTakenMeanwhile(t *testing.T) {
	t.Parallel()
	c := &contested{}
	p := c.provider(t)
	urn, one := settings("one")
	c.meanwhile = func(at string) {
		if path.Base(at) == "settings" {
			theirs := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
			theirs.SetName("settings")
			theirs.SetUID("theirs")
			c.objects[at] = theirs
		}
	}
	_, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn, Properties: one})
	if _, ok := errors.AsType[*foreignError](err); !ok {
		t.Errorf("got %v", err)
	}
	if o := c.at("settings"); o == nil || o.GetUID() != "theirs" {
		t.Error("it was taken over")
	}
}

// What was to be deleted went by itself, and another one has its name.
func TestReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	c := &contested{}
	p := c.provider(t)
	_, err := p.makeOwner(t.Context(), p.cluster.configMaps(), ownerName("identity", "space"), "identity")
	check(t, err)
	uid := c.at("mayfly-identity").GetUID()
	c.meanwhile = func(at string) { c.objects[at].SetUID("another") }
	check(t, p.remove(t.Context(), p.cluster.configMaps(), ownerName("identity", "space"), uid, 0))
	if c.at("mayfly-identity") == nil {
		t.Error("another one was deleted")
	}
}

// Conflicts without an end are a failure, in the API server's words.
func TestConflictsWithoutEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		endless := apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, "settings", errors.New("again"))
		tries := 0
		err := anew(t.Context(), func() error {
			tries++
			return endless
		})
		if !errors.Is(err, endless) || tries != looks {
			t.Errorf("%v after %d tries", err, tries)
		}
	})
}
