package kubernetes

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A listing API server has the same Namespaces and ConfigMaps for everybody.
type listing struct {
	configMaps, namespaces []metav1.PartialObjectMetadata
}

func (l *listing) RoundTrip(r *http.Request) (*http.Response, error) {
	items := l.namespaces
	if strings.HasSuffix(r.URL.Path, "/configmaps") {
		items = l.configMaps
	}
	list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}, Items: items}
	text, err := json.Marshal(list)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(text))), Request: r,
	}, err
}

// FuzzInstances has anything be labelled as an instance's. Who reads the labels
// by Kubernetes' own types finds the same instances: each once and the oldest
// first, and the challenge that one object tells, never half of two, for it is
// what decides on the end of what has no record.
func FuzzInstances(f *testing.F) {
	f.Add([]byte("{name: mayfly-a, creationTimestamp: '2030-01-02T03:04:05Z', labels: {mayfly.dev/identity: a}, annotations: {mayfly.dev/tenant: default, mayfly.dev/challenge: web/one}}"),
		[]byte("{name: a, creationTimestamp: '2030-01-02T03:04:04Z', labels: {mayfly.dev/identity: a}}"), []byte("{name: b, labels: {mayfly.dev/identity: b}}"))
	f.Add([]byte("{name: mayfly-a, labels: {mayfly.dev/identity: a}, annotations: {mayfly.dev/tenant: t}}"),
		[]byte("{name: n, labels: {mayfly.dev/identity: a}, annotations: {mayfly.dev/challenge: c}}"),
		[]byte("{name: m, labels: {mayfly.dev/identity: a}, annotations: {mayfly.dev/tenant: u, mayfly.dev/challenge: d}}"))
	f.Add([]byte("{name: somebody's, labels: {mayfly.dev/identity: a}}"), []byte("{name: mayfly-, labels: {}}"), []byte("{annotations: {mayfly.dev/challenge: é}, creationTimestamp: null}"))
	f.Add([]byte("{name: mayfly-a, labels: {mayfly.dev/identity: a}, annotations: {mayfly.dev/tenant: t}}"), []byte("{}"), []byte("{}"))
	server := &listing{}
	cluster, err := newCluster(&rest.Config{Host: "http://h", Transport: server, QPS: -1}, "target")
	if err != nil {
		f.Fatal(err)
	}
	p, err := NewProvider(Options{Cluster: cluster})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		var objects []metav1.PartialObjectMetadata
		for _, text := range [][]byte{first, second, third} {
			var metadata map[string]any
			o := metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Any"}}
			if yaml.Unmarshal(text, &metadata) != nil || runtime.DefaultUnstructuredConverter.FromUnstructured(metadata, &o.ObjectMeta) != nil {
				return // no API server says so
			}
			objects = append(objects, o)
		}
		server.configMaps, server.namespaces = objects, objects[1:]
		got, err := ctf.Collect(p.Instances(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(holdings(server), got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// holdings are what the objects of a listing say.
func holdings(l *listing) []ctf.Holding {
	// Of ConfigMaps only those that own the objects of an instance.
	told := slices.Clone(l.configMaps)
	told = slices.DeleteFunc(told, func(o metav1.PartialObjectMetadata) bool { return o.Name != "mayfly-"+o.Labels[LabelIdentity] })
	told = append(told, l.namespaces...)
	var all []ctf.Holding
	for n, o := range told {
		of := func(o metav1.PartialObjectMetadata) bool {
			return o.Labels[LabelIdentity] == told[n].Labels[LabelIdentity]
		}
		if slices.ContainsFunc(told[:n], of) {
			continue
		}
		h := ctf.Holding{Key: ctf.InstanceKey{Identity: ctf.Identity(o.Labels[LabelIdentity])}, Since: o.CreationTimestamp.Time}
		for _, o := range slices.Backward(told) {
			if !of(o) {
				continue
			}
			if o.CreationTimestamp.Time.Before(h.Since) {
				h.Since = o.CreationTimestamp.Time
			}
			if id := o.Annotations[LabelChallenge]; id != "" {
				h.Key.Challenge = ctf.ChallengeKey{Tenant: ctf.Tenant(o.Annotations[LabelTenant]), ID: ctf.ChallengeID(id)}
			}
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b ctf.Holding) int {
		if order := a.Since.Compare(b.Since); order != 0 {
			return order
		}
		return strings.Compare(string(a.Key.Identity), string(b.Key.Identity))
	})
	return all
}
