package install_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

func bounds(least, most int) install.Scale { return install.Scale{Min: &least, Max: &most} }

// What can't be is refused, and every mistake is named.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ten := 10
	for name, c := range map[string]struct {
		change func(*install.Options)
		want   []string
	}{
		"a namespace that is no name":      {func(o *install.Options) { o.Namespace = "Mayfly" }, []string{`namespace "Mayfly"`}},
		"a namespace too long for another": {func(o *install.Options) { o.Namespace = strings.Repeat("a", 54) }, []string{"-instances", "63"}},
		"a namespace of all":               {func(o *install.Options) { o.Namespace = "default" }, []string{`namespace "default"`, "cluster's own"}},
		"a namespace of Kubernetes":        {func(o *install.Options) { o.Namespace = "kube-system" }, []string{`namespace "kube-system"`}},
		"a namespace of Knative":           {func(o *install.Options) { o.Namespace = "knative-serving" }, []string{`namespace "knative-serving"`}},
		"a setting nobody knows":           {func(o *install.Options) { o.Settings = map[string]string{"LOGLEVEL": "x"} }, []string{"setting LOGLEVEL", "settings.env"}},
		"a setting that is no text":        {func(o *install.Options) { o.Settings = map[string]string{"OCI_USERNAME": "\xff"} }, []string{"setting OCI_USERNAME", "text"}},
		"a setting of two lines":           {func(o *install.Options) { o.Settings = map[string]string{"OCI_USERNAME": "a\nb"} }, []string{"setting OCI_USERNAME", "text"}},
		"a token of a space":               {func(o *install.Options) { o.Token = " " }, []string{"token", "spaces"}},
		"a password of nobody":             {func(o *install.Options) { o.RegistryPassword = "secret" }, []string{"registry password", "OCI_USERNAME"}},
		"a token with a line end":          {func(o *install.Options) { o.Token = "secret\n" }, []string{"token", "line ends"}},
		"no worker":                        {func(o *install.Options) { o.Settings = map[string]string{"WORKERS": "0"} }, []string{"setting WORKERS", "at least 1"}},
		"deployments of no number":         {func(o *install.Options) { o.Settings = map[string]string{"DEPLOYMENTS": "all"} }, []string{"setting DEPLOYMENTS", "number"}},
		"a wait without a unit":            {func(o *install.Options) { o.Settings = map[string]string{"CREATE_WAIT": "60"} }, []string{"setting CREATE_WAIT", "1m"}},
		"replicas of no number":            {func(o *install.Options) { o.Settings = map[string]string{"REDIS_WAIT": "all"} }, []string{"setting REDIS_WAIT", "number"}},
		"replicas that nobody has":         {func(o *install.Options) { o.Settings = map[string]string{"REDIS_WAIT": "1"} }, []string{"setting REDIS_WAIT", "no replicas"}},
		"replicas of a Cluster": {func(o *install.Options) {
			o.Redis, o.Settings = "rediss+cluster://r:6379", map[string]string{"REDIS_WAIT": "1"}
			delete(o.Images, "redis")
		}, []string{"redis address", "replicas", "Cluster"}},
		"replicas of several addresses": {func(o *install.Options) {
			o.Redis, o.Settings = "redis://a:6379,b:6379", map[string]string{"REDIS_WAIT": "1"}
			delete(o.Images, "redis")
		}, []string{"redis address", "replicas", "Cluster"}},
		"an overlay that is not there":  {func(o *install.Options) { o.Overlay = "staging" }, []string{`overlay "staging"`, "local, production"}},
		"no overlay":                    {func(o *install.Options) { o.Overlay = "" }, []string{`overlay ""`}},
		"no images":                     {func(o *install.Options) { o.Images = nil }, []string{"image api", "image engine", "image redis"}},
		"an image nobody knows":         {func(o *install.Options) { o.Images["agent"] = "a" }, []string{"image agent"}},
		"an image that is no reference": {func(o *install.Options) { o.Images["api"] = "My Image" }, []string{"image api"}},
		"two Redis":                     {func(o *install.Options) { o.Redis = "redis://r:6379" }, []string{"image redis", "leave one"}},
		"an address that is none":       {func(o *install.Options) { o.Redis = "r:6379"; delete(o.Images, "redis") }, []string{"redis address", "redis://"}},
		"a Sentinel without a master": {func(o *install.Options) { o.Redis = "redis+sentinel://r:1"; delete(o.Images, "redis") }, []string{
			"redis address", "master_name",
		}},
		"a host that is none":        {func(o *install.Options) { o.Domain = "ctf example" }, []string{`domain "ctf example"`}},
		"a host without a domain":    {func(o *install.Options) { o.Domain = "ctf" }, []string{`domain "ctf"`}},
		"a setting that is a secret": {func(o *install.Options) { o.Settings = map[string]string{"REDIS_URL": "x"} }, []string{"setting REDIS_URL", "secret"}},
		"a setting that is none":     {func(o *install.Options) { o.Settings = map[string]string{"log-level": "x"} }, []string{"setting log-level", "LOG_LEVEL"}},
		"a function nobody knows":    {func(o *install.Options) { o.Scale = map[string]install.Scale{"create": {}} }, []string{"scale of create", "no function"}},
		"more at least than at most": {func(o *install.Options) { o.Scale = map[string]install.Scale{"gateway": bounds(3, 2)} }, []string{"min is 3 and max is 2"}},
		"more than configured":       {func(o *install.Options) { o.Scale = map[string]install.Scale{"expire": {Min: &ten}} }, []string{"scale of expire", "min is 10"}},
		"none at most":               {func(o *install.Options) { o.Scale = map[string]install.Scale{"gateway": bounds(0, 0)} }, []string{"max is 0"}},
		"fewer than none":            {func(o *install.Options) { o.Scale = map[string]install.Scale{"gateway": bounds(-1, 1)} }, []string{"min is -1"}},
		"all at once": {func(o *install.Options) {
			o.Namespace, o.Domain, o.Images = "a.b", "x", nil
			o.Scale = map[string]install.Scale{"nobody": {}}
		}, []string{"namespace", "domain", "image api", "scale of nobody"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options("local")
			c.change(&o)
			objects, err := install.Render(o)
			if err == nil {
				t.Fatalf("%d objects", len(objects))
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
		})
	}
}

// A Redis that is there already is used, and none is made.
func TestExternalRedis(t *testing.T) {
	t.Parallel()
	for _, overlay := range []string{"local", "production"} {
		o := options(overlay)
		all := len(render(t, o))
		o.Redis, o.Volume = "rediss://:secret@redis.example:6380", overlay == "local"
		delete(o.Images, "redis")
		objects := render(t, o)
		for _, object := range objects {
			if object.GetName() == "redis" {
				t.Errorf("%s: there is a %s for Redis", overlay, object.GetKind())
			}
		}
		if len(objects) != all-4 {
			t.Errorf("%s: %d objects, and %d with Redis", overlay, len(objects), all)
		}
		for _, secret := range (install.Secrets{RedisPassword: "unused", Keys: "k"}).Objects(o) {
			values, _, _ := unstructured.NestedStringMap(secret.Object, "stringData")
			if secret.GetName() == "redis" && (len(values) != 1 || values["url"] != o.Redis) {
				t.Errorf("%s: %v", overlay, values)
			}
		}
	}
}

// A host of the operator's is claimed and mapped, and public: it wants a token.
func TestDomain(t *testing.T) {
	t.Parallel()
	o := options("production")
	o.Domain = "api.ctf.example"
	objects := render(t, o)
	kinds := map[string]string{}
	for _, object := range objects {
		if object.GetName() == o.Domain {
			kinds[object.GetKind()] = object.GetNamespace()
		}
	}
	if len(kinds) != 2 || kinds["DomainMapping"] != "ns" || kinds["ClusterDomainClaim"] != "" {
		t.Errorf("found %v", kinds)
	}
	if err := install.CheckPublic(objects, false); !errors.Is(err, install.ErrNoToken) {
		t.Errorf("without a token: %v", err)
	}
	if err := install.CheckPublic(objects, true); err != nil {
		t.Errorf("with one: %v", err)
	}
	o.Domain = ""
	if err := install.CheckPublic(render(t, o), false); err != nil {
		t.Errorf("inside of the cluster: %v", err)
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	o := options("production")
	before, one := functions(t, o), 1
	o.Scale = map[string]install.Scale{"gateway": bounds(2, 4), "expire": {Min: &one}}
	after := functions(t, o)
	const least, most = "autoscaling.knative.dev/min-scale", "autoscaling.knative.dev/max-scale"
	for name, want := range map[string][2]string{
		"gateway":        {"2", "4"},
		"expire":         {"1", before["expire"].Spec.Template.Annotations[most]},
		"renew-instance": {"0", before["renew-instance"].Spec.Template.Annotations[most]},
	} {
		got := after[name].Spec.Template.Annotations
		if got[least] != want[0] || got[most] != want[1] {
			t.Errorf("%s: %s to %s, want %v", name, got[least], got[most], want)
		}
	}
}

// Another secret of any kind makes other pods, and the mark does not tell it.
func TestStamp(t *testing.T) {
	t.Parallel()
	const keys, token = "k1:c2VjcmV0", "a token that is long"
	mark := func(s install.Secrets, address, token, registry string) string {
		t.Helper()
		o := options("local")
		objects := render(t, o)
		o.Redis, o.Token, o.RegistryPassword = address, token, registry
		check(t, s.Stamp(o, objects))
		seen := map[string]bool{}
		for _, object := range objects {
			if _, ok := typed(object).(*servingv1.Service); !ok {
				continue
			}
			var function servingv1.Service
			check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &function))
			seen[function.Spec.Template.Annotations["mayfly.dev/secrets"]] = true
		}
		if len(seen) != 1 {
			t.Fatalf("marks %v", seen)
		}
		for mark := range seen {
			return mark
		}
		return ""
	}
	same := install.Secrets{RedisPassword: "p", Keys: keys}
	marks := map[string]bool{
		mark(same, "", token, ""): true,
		mark(install.Secrets{RedisPassword: "q", Keys: keys}, "", token, ""):                  true,
		mark(install.Secrets{RedisPassword: "p", Keys: "k2:b3RoZXI=," + keys}, "", token, ""): true,
		mark(same, "", "", ""):                          true,
		mark(same, "redis://elsewhere:6379", token, ""): true,
		mark(same, "", token, "r"):                      true,
	}
	if len(marks) != 6 || !marks[mark(same, "", token, "")] {
		t.Errorf("marks %v", marks)
	}
}

// What is changed by its Go type is, besides, as the configuration has it.
func TestChangeKeepsTheRest(t *testing.T) {
	t.Parallel()
	o := options("production")
	before := render(t, o)
	o.Scale = map[string]install.Scale{"gateway": bounds(1, 10)}
	for i, object := range render(t, o) {
		if object.GetName() == "gateway" && object.GetKind() == "Service" {
			check(t, unstructured.SetNestedField(object.Object, "0", "spec", "template", "metadata", "annotations", autoscaling.MinScaleAnnotationKey))
		}
		if d := cmp.Diff(before[i].Object, object.Object); d != "" {
			t.Errorf("%s: %s", object.GetName(), d)
		}
	}
}
