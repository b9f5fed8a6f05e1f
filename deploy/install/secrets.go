package install

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const keyBytes = 32

func secretOf(namespace, name string) identity {
	return identity{schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, namespace, name}
}

// secrets makes what is secret and not there: the password of Redis, and the
// keys that records are encrypted with. What is there stays: without the keys
// nothing that is stored can be read.
func (c *Cluster) secrets(ctx context.Context, o Options) error {
	password, id, key := random(24), random(4), make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails, by its documentation
	made := map[string]map[string]any{
		"redis": {"password": password, "url": "redis://:" + password + "@redis." + o.namespace() + ".svc:6379"},
		"keys":  {"keys": "k" + id + ":" + base64.StdEncoding.EncodeToString(key)},
	}
	for name, values := range made {
		if err := c.createSecret(ctx, secretOf(o.namespace(), name), values); err != nil {
			return err
		}
	}
	if o.Token == "" {
		return nil
	}
	token := newSecret(secretOf(o.namespace(), "token"), map[string]any{"token": o.Token})
	_, err := c.apply(ctx, token, false)
	return err
}

func (c *Cluster) createSecret(ctx context.Context, id identity, values map[string]any) error {
	at, err := c.at(id.GroupVersionKind, id.Namespace)
	if err != nil {
		return err
	}
	_, err = at.Create(ctx, newSecret(id, values), metav1.CreateOptions{FieldManager: manager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make %s: %w", id, err)
	}
	return nil
}

// hasToken tells whether callers must show a token.
func (c *Cluster) hasToken(ctx context.Context, o Options) (bool, error) {
	if o.Token != "" {
		return true, nil
	}
	live, err := c.get(ctx, secretOf(o.namespace(), "token"))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a token: %w", err)
	}
	token, _, _ := unstructured.NestedString(live.Object, "data", "token")
	return token != "", nil
}

func newSecret(id identity, values map[string]any) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"type": "Opaque", "stringData": values}}
	object.SetGroupVersionKind(id.GroupVersionKind)
	object.SetNamespace(id.Namespace)
	object.SetName(id.Name)
	object.SetLabels(ours())
	return object
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails, by its documentation
	return hex.EncodeToString(b)
}
