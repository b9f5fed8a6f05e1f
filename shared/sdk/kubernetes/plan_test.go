package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	k8s "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// Everything that an object names is there before it, nothing has the name of
// another one, and no name is longer than Kubernetes takes.
func TestPlanNames(t *testing.T) {
	t.Parallel()
	long := three()
	long.Label = strings.Repeat("l", 40)
	ambiguous := &k8s.ExposedMultipodArgs{
		Identity: "a0b1c2d3", Hostname: "ctf.example",
		Containers: map[string]k8s.Container{
			"a":       {Image: "a", Ports: []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}, {Port: 8080}}},
			"a-80":    {Image: "a", Ports: []k8s.PortBinding{{Port: 80}, {Port: 80, Protocol: k8s.UDP}}},
			"a-to-a":  {Image: "a", Ports: []k8s.PortBinding{{Port: 80}}},
			"a-80-tc": {Image: "a"},
		},
		Rules: []k8s.Rule{
			{From: "a", To: "a-80", On: 80}, {From: "a", To: "a-80", On: 80, Protocol: k8s.UDP}, {From: "a", To: "a-to-a", On: 80},
		},
	}
	for name, p := range map[string]planner{"web": web(), "three": three(), "ports": ports(), "long": long, "ambiguous": ambiguous} {
		keys, names := make(map[string]bool), make(map[string]bool)
		for _, o := range planned(t, p).Objects {
			metadata, _ := o.Body["metadata"].(map[string]any)
			object, _ := metadata["name"].(string)
			if keys[o.Key()] || names[o.Kind()+object] || len(object) > 63 || object == "" {
				t.Errorf("%s: %s has the name %q, which is there already or too long", name, o.Key(), object)
			}
			for _, needed := range o.After {
				if !keys[needed] {
					t.Errorf("%s: %s comes before %s", name, o.Key(), needed)
				}
			}
			keys[o.Key()], names[o.Kind()+object] = true, true
		}
		for _, e := range planned(t, p).Endpoints {
			if !keys[e.Object] {
				t.Errorf("%s: there is no %s", name, e.Object)
			}
		}
	}
}

// A default gives way to what is said, and to none.
func TestPlanResources(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ requests, limits, wantRequests, wantLimits map[string]string }{
		"defaults": {nil, nil,
			map[string]string{"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
			map[string]string{"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "256Mi"}},
		"more and less": {map[string]string{"memory": "1Gi"}, map[string]string{"cpu": "10m"},
			map[string]string{"cpu": "10m", "memory": "1Gi", "ephemeral-storage": "16Mi"},
			map[string]string{"cpu": "10m", "memory": "1Gi", "ephemeral-storage": "256Mi"}},
		"no limit": {map[string]string{"memory": "1Gi"}, map[string]string{"cpu": k8s.None, "memory": k8s.None},
			map[string]string{"cpu": "50m", "memory": "1Gi", "ephemeral-storage": "16Mi"},
			map[string]string{"ephemeral-storage": "256Mi"}},
		"no request": {map[string]string{"cpu": k8s.None, "memory": k8s.None}, nil,
			map[string]string{"ephemeral-storage": "16Mi"},
			map[string]string{"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "256Mi"}},
	} {
		c := node(k8s.PortBinding{Port: 80, ExposeType: k8s.ExposeNodePort})
		c.Requests, c.Limits = tc.requests, tc.limits
		for _, o := range planned(t, monopod(c)).Objects {
			if o.Kind() != "Deployment" {
				continue
			}
			want := map[string]any{"requests": tc.wantRequests, "limits": tc.wantLimits}
			if got := containerOf(t, o)["resources"]; !equal(t, got, want) {
				t.Errorf("%s: resources = %v, want %v", name, got, want)
			}
		}
	}
}

// containerOf is the container of a Deployment.
func containerOf(t *testing.T, o k8s.Object) map[string]any {
	t.Helper()
	text, err := json.Marshal(o.Body)
	if err != nil {
		t.Fatal(err)
	}
	var deployment struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []map[string]any }
			}
		}
	}
	if err := json.Unmarshal(text, &deployment); err != nil {
		t.Fatal(err)
	}
	return deployment.Spec.Template.Spec.Containers[0]
}

// Two components of one instance that differ in their label select none of each
// other's pods.
func TestPlanLabelsSeparate(t *testing.T) {
	t.Parallel()
	c := k8s.Container{Image: "a", Ports: []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeIngress}}}
	one, two := planned(t, monopod(c)), planned(t, monopod(c, func(a *k8s.ExposedMonopodArgs) { a.Label = "two" }))
	for i, o := range one.Objects {
		if a, b := o.Body["metadata"], two.Objects[i].Body["metadata"]; equal(t, a, b) {
			t.Errorf("%s: %v in both", o.Key(), a)
		}
		if o.Kind() == "Service" && equal(t, o.Body["spec"], two.Objects[i].Body["spec"]) {
			t.Error("both services select the same pods")
		}
	}
	if one.Endpoints[0].Host == two.Endpoints[0].Host {
		t.Errorf("both have the host %s", one.Endpoints[0].Host)
	}
}

// Pods start anew when a file or secret changes, and only then.
func TestPlanContents(t *testing.T) {
	t.Parallel()
	deployment := func(c k8s.Container) any {
		c.Image, c.Ports = "a", []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}}
		for _, o := range planned(t, monopod(c)).Objects {
			if o.Kind() == "Deployment" {
				return o.Body
			}
		}
		return nil
	}
	secret := k8s.Container{Secrets: map[string]string{"FLAG": "a"}}
	files := k8s.Container{Files: map[string]string{"/f": "a"}}
	if equal(t, deployment(secret), deployment(k8s.Container{Secrets: map[string]string{"FLAG": "b"}})) ||
		equal(t, deployment(files), deployment(k8s.Container{Files: map[string]string{"/f": "b"}})) {
		t.Error("a change goes unnoticed")
	}
	if !equal(t, deployment(secret), deployment(secret)) {
		t.Error("without a change it would start anew")
	}
}

func equal(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// What is secret is in the Secret alone.
func TestPlanKeepsSecrets(t *testing.T) {
	t.Parallel()
	for _, o := range planned(t, web()).Objects {
		text, err := json.Marshal(o.Body)
		if err != nil {
			t.Fatal(err)
		}
		if o.Sensitive != (o.Kind() == "Secret") || strings.Contains(string(text), "MAYFLY") {
			t.Errorf("%s: sensitive is %v: %s", o.Key(), o.Sensitive, text)
		}
	}
}

func TestEndpointAddress(t *testing.T) {
	t.Parallel()
	type state = map[string]any
	balancer := func(at state) state { return state{"loadBalancer": state{"ingress": []any{at}}} }
	for name, tc := range map[string]struct {
		endpoint     k8s.Endpoint
		spec, status state
		want         string
	}{
		"node port":              {k8s.Endpoint{ExposeType: k8s.ExposeNodePort, Host: "h"}, state{"ports": []any{state{"nodePort": 30001.0}}}, nil, "h:30001"},
		"node port of client-go": {k8s.Endpoint{ExposeType: k8s.ExposeNodePort, Host: "h"}, state{"ports": []any{state{"nodePort": int64(30001)}}}, nil, "h:30001"},
		"none yet":               {k8s.Endpoint{ExposeType: k8s.ExposeNodePort, Host: "h"}, nil, nil, ""},
		"balancer's name":        {k8s.Endpoint{ExposeType: k8s.ExposeLoadBalancer, Port: 80}, nil, balancer(state{"hostname": "lb.example"}), "lb.example:80"},
		"balancer's address":     {k8s.Endpoint{ExposeType: k8s.ExposeLoadBalancer, Port: 80}, nil, balancer(state{"ip": "2001:db8::1"}), "[2001:db8::1]:80"},
		"balancer without":       {k8s.Endpoint{ExposeType: k8s.ExposeLoadBalancer, Port: 80}, nil, state{"loadBalancer": state{}}, ""},
		"ingress":                {k8s.Endpoint{ExposeType: k8s.ExposeIngress, Host: "x.h"}, nil, nil, "x.h"},
		"internal":               {k8s.Endpoint{}, nil, nil, ""},
	} {
		got, err := tc.endpoint.Address(tc.spec, tc.status)
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: Address = %q, %v, want %q", name, got, err, tc.want)
		}
	}
}

func TestObjectToken(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"ConfigMap": "kubernetes:core/v1:ConfigMap", "Secret": "kubernetes:core/v1:Secret", "Service": "kubernetes:core/v1:Service",
		"Deployment": "kubernetes:apps/v1:Deployment", "Ingress": "kubernetes:networking.k8s.io/v1:Ingress",
		"NetworkPolicy": "kubernetes:networking.k8s.io/v1:NetworkPolicy",
	}
	for _, o := range planned(t, web()).Objects {
		if o.Token() != want[o.Kind()] {
			t.Errorf("token of a %s = %s", o.Kind(), o.Token())
		}
		delete(want, o.Kind())
	}
	if len(want) > 0 {
		t.Errorf("not made: %v", want)
	}
}

// Root's default capabilities lack NET_RAW, unless it is asked for.
func TestPlanGrantsRawSockets(t *testing.T) {
	t.Parallel()
	c := k8s.Container{
		Image: "a", Ports: []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}},
		Security: k8s.Security{AllowRoot: true, AddCapabilities: []string{"NET_RAW"}},
	}
	if text := string(render(t, planned(t, monopod(c)))); strings.Contains(text, "drop:") || !strings.Contains(text, "- NET_RAW") {
		t.Errorf("objects:\n%s", text)
	}
}

// Outputs of other resources stay what they are, for the engine to resolve.
func TestPlanKeepsOutputs(t *testing.T) {
	t.Parallel()
	c := k8s.Container{
		Image: "a", Ports: []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}},
		EnvOutputs: map[string]pulumi.StringInput{"X": pulumi.String("x")},
	}
	for _, o := range planned(t, monopod(c)).Objects {
		if o.Kind() == "Deployment" && !strings.Contains(string(render(t, &k8s.Plan{Objects: []k8s.Object{o}})), "name: X\n              value: x") {
			t.Errorf("the variable is lost: %v", o.Body)
		}
	}
}
