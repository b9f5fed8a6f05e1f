package install

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// stampAnnotation is on what functions' pods are made from. It changes with the
// secrets, which a pod reads only when it starts.
const stampAnnotation = "mayfly.dev/secrets"

// Secrets are what the configuration wants to be there and does not hold.
type Secrets struct {
	// RedisPassword is that of the Redis of the configuration; it has no meaning
	// for one that is at an address.
	RedisPassword string
	// Keys encrypt what is stored, as MAYFLY_KEYS of the functions.
	Keys string
}

func (o Options) redisURL(password string) string {
	if o.Redis != "" {
		return o.Redis
	}
	address := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: o.redisHost()}
	return address.String()
}

func (o Options) redisHost() string { return "redis." + o.namespace() + ".svc:6379" }

// Objects returns the Secrets as the functions of the configuration read them.
func (s Secrets) Objects(o Options) []*unstructured.Unstructured {
	redis := map[string]any{"url": o.redisURL(s.RedisPassword)}
	if o.Redis == "" {
		redis["password"] = s.RedisPassword
	}
	objects := []*unstructured.Unstructured{
		newSecret(secretOf(o.namespace(), "redis"), redis),
		newSecret(secretOf(o.namespace(), "keys"), map[string]any{"keys": s.Keys}),
	}
	if o.Token != "" {
		objects = append(objects, newSecret(secretOf(o.namespace(), "token"), map[string]any{"token": o.Token}))
	}
	if o.RegistryPassword != "" {
		objects = append(objects, newSecret(secretOf(o.namespace(), "registry"), map[string]any{"password": o.RegistryPassword}))
	}
	return objects
}

// Stamp marks functions, so that other secrets make new revisions of them: a
// token that was changed is then the only one as soon as they are ready. The
// mark tells nothing of the secrets to who does not have the keys.
func (s Secrets) Stamp(o Options, objects []*unstructured.Unstructured) error {
	return stamp(objects, s.Keys, o.redisURL(s.RedisPassword), o.Token, o.RegistryPassword)
}

func stamp(objects []*unstructured.Unstructured, keys string, others ...string) error {
	mac := hmac.New(sha256.New, []byte(keys))
	fmt.Fprintf(mac, "%q", others)
	mark := hex.EncodeToString(mac.Sum(nil)[:8])
	for _, object := range objects {
		if !isFunction(object) {
			continue
		}
		err := change(object, func(function *servingv1.Service) error {
			metav1.SetMetaDataAnnotation(&function.Spec.Template.ObjectMeta, stampAnnotation, mark)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func secretOf(namespace, name string) identity {
	return identity{schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, namespace, name}
}

// secrets makes what is secret and not there: the password of Redis, and the
// keys that records are encrypted with. What is there stays, unless the options
// have another: without the keys nothing that is stored can be read. Then it
// marks the functions.
func (c *Cluster) secrets(ctx context.Context, o Options, objects []*unstructured.Unstructured) error {
	for _, secret := range (Secrets{random(24), redis.NewKey()}).Objects(o) {
		var err error
		if name := secret.GetName(); name == "keys" || name == "redis" && o.Redis == "" {
			err = c.createSecret(ctx, secret)
		} else {
			_, err = c.apply(ctx, secret, false)
		}
		if err != nil {
			return err
		}
	}
	redisURL, err := c.secret(ctx, o.namespace(), "redis", "url")
	if err != nil {
		return err
	}
	ours := slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "StatefulSet" })
	if ours && !strings.HasSuffix(redisURL, "@"+o.redisHost()) {
		return fmt.Errorf("the Secret %s/redis has the address of another Redis: give that again, or delete the Secret", o.namespace())
	}
	keys, err := c.secret(ctx, o.namespace(), "keys", "keys")
	if err != nil {
		return err
	}
	token, err := c.secret(ctx, o.namespace(), "token", "token")
	if err != nil {
		return err
	}
	registry, err := c.secret(ctx, o.namespace(), "registry", "password")
	if err != nil {
		return err
	}
	return stamp(objects, keys, redisURL, token, registry)
}

func (c *Cluster) createSecret(ctx context.Context, secret *unstructured.Unstructured) error {
	id := identify(secret)
	at, err := c.at(id.GroupVersionKind, id.Namespace)
	if err != nil {
		return err
	}
	_, err = at.Create(ctx, secret, metav1.CreateOptions{FieldManager: manager})
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
	token, err := c.secret(ctx, o.namespace(), "token", "token")
	if err == nil && checkToken(token) != nil {
		err = fmt.Errorf("the Secret %s/token: %w: give another one", o.namespace(), checkToken(token))
	}
	return token != "", err
}

// secret reads one key of a Secret; one that is not there is empty.
func (c *Cluster) secret(ctx context.Context, namespace, name, key string) (string, error) {
	var live corev1.Secret
	err := c.read(ctx, secretOf(namespace, name), &live)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the Secret %s: %w", name, err)
	}
	return string(live.Data[key]), nil
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
