// Scenarios as their authors write them for chall-manager, unchanged: what is
// deployed is chosen by additional.kind.
package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ctfer-io/chall-manager/sdk"
	k8s "github.com/ctfer-io/chall-manager/sdk/kubernetes"
	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	yamlv2 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/yaml/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

func main() {
	sdk.Run(func(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
		deploy := map[string]func(*sdk.Request, *sdk.Response, ...pulumi.ResourceOption) error{
			"nodeport": monopod, "ingress": monopod, "multipod": multipod, "kompose": kompose, "group": group, "plain": plain,
		}[req.Config.Additional["kind"]]
		if deploy == nil {
			return fmt.Errorf("no kind %q", req.Config.Additional["kind"])
		}
		return deploy(req, resp, opts...)
	})
}

func container(req *sdk.Request, expose k8s.ExposeType) k8s.ContainerArgs {
	return k8s.ContainerArgs{
		Image: pulumi.String(req.Config.Additional["image"]),
		Ports: k8s.PortBindingArray{k8s.PortBindingArgs{Port: pulumi.Int(8080), ExposeType: expose}},
		Envs:  k8s.PrinterMap{"ANSWER": k8s.ToPrinter(pulumi.String(req.Config.Additional["answer"]))},
		Files: pulumi.StringMap{"/etc/flag.txt": pulumi.String("flag{" + req.Config.Identity + "}")},
	}
}

func monopod(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	expose, hostname, proxy := k8s.ExposeNodePort, req.Config.Additional["host"], pulumi.StringMap{}
	if req.Config.Additional["kind"] == "ingress" {
		expose, hostname = k8s.ExposeIngress, req.Config.Additional["domain"]
		for _, label := range strings.Split(req.Config.Additional["ingressLabels"], ",") {
			key, value, _ := strings.Cut(label, "=")
			proxy[key] = pulumi.String(value)
		}
	}
	pod, err := k8s.NewExposedMonopod(req.Ctx, "web", &k8s.ExposedMonopodArgs{
		Identity: pulumi.String(req.Config.Identity), Hostname: pulumi.String(hostname), Container: container(req, expose),
		IngressNamespace: pulumi.String(req.Config.Additional["ingressNamespace"]), IngressLabels: proxy,
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("http://%s", pod.URLs.MapIndex(pulumi.String("8080/TCP")))
	return nil
}

func multipod(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	front, back := container(req, k8s.ExposeNodePort), container(req, k8s.ExposeInternal)
	front.Envs = k8s.PrinterMap{"ANSWER": k8s.ToPrinter(pulumi.String("the back says")), "ASK": k8s.NewPrinter("%s:8080", "back")}
	back.Envs = k8s.PrinterMap{
		"ANSWER": k8s.ToPrinter(pulumi.String(req.Config.Additional["answer"])),
		"SHOW":   k8s.ToPrinter(pulumi.String("/etc/flag.txt")),
	}
	pods, err := k8s.NewExposedMultipod(req.Ctx, "net", &k8s.ExposedMultipodArgs{
		Identity: pulumi.String(req.Config.Identity), Hostname: pulumi.String(req.Config.Additional["host"]),
		Containers: k8s.ContainerMap{"front": front, "back": back},
		Rules:      k8s.RuleArray{k8s.RuleArgs{From: pulumi.String("front"), To: pulumi.String("back"), On: pulumi.Int(8080)}},
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("http://%s", pods.URLs.MapIndex(pulumi.String("front")).MapIndex(pulumi.String("8080/TCP")))
	return nil
}

func kompose(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	text := strings.NewReplacer("IMAGE", req.Config.Additional["image"], "WORD", req.Config.Additional["answer"]).Replace(`
services:
  web:
    image: IMAGE
    environment: {ANSWER: WORD}
    ports: ["8080:8080"]
`)
	k, err := k8s.NewKompose(req.Ctx, "compose", &k8s.KomposeArgs{
		Identity: pulumi.String(req.Config.Identity), Hostname: pulumi.String(req.Config.Additional["host"]),
		YAML:  pulumi.String(text),
		Ports: k8s.PortBindingMapArray{"web": {k8s.PortBindingArgs{Port: pulumi.Int(8080), ExposeType: k8s.ExposeNodePort}}},
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("http://%s", k.URLs.MapIndex(pulumi.String("web")).MapIndex(pulumi.String("8080/TCP")))
	return nil
}

// group puts objects written in YAML into a namespace of the instance, and
// looks for the service among them.
func group(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	identity := pulumi.String(req.Config.Identity)
	namespace, err := corev1.NewNamespace(req.Ctx, "namespace", &corev1.NamespaceArgs{
		Metadata: metav1.ObjectMetaArgs{Name: identity},
	}, opts...)
	if err != nil {
		return err
	}
	text := strings.NewReplacer("IMAGE", req.Config.Additional["image"], "WORD", req.Config.Additional["answer"],
		"SPACE", req.Config.Identity).Replace(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: "SPACE", creationTimestamp: null}
spec: {type: NodePort, selector: {app: web}, ports: [{name: "8080", port: 8080}]}
status: {loadBalancer: {}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: "SPACE", creationTimestamp: null}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {creationTimestamp: null, labels: {app: web}}
    spec: {containers: [{name: web, image: "IMAGE", resources: {}, env: [{name: ANSWER, value: "WORD"}]}]}
status: {}
`)
	g, err := yamlv2.NewConfigGroup(req.Ctx, "group", &yamlv2.ConfigGroupArgs{Yaml: pulumi.String(text)},
		append(opts, pulumi.DependsOn([]pulumi.Resource{namespace}))...)
	if err != nil {
		return err
	}
	found := make(chan *corev1.Service, 1)
	g.Resources.ApplyT(func(resources []any) error {
		for _, r := range resources {
			if service, ok := r.(*corev1.Service); ok {
				found <- service
			}
		}
		close(found)
		return nil
	})
	service := <-found
	if service == nil {
		return errors.New("no service among the resources")
	}
	ports := service.Spec.Ports()
	resp.ConnectionInfo = pulumi.Sprintf("http://%s:%d", req.Config.Additional["host"], ports.Index(pulumi.Int(0)).NodePort().Elem())
	return nil
}

func plain(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	labels := pulumi.StringMap{"app": pulumi.String("plain-" + req.Config.Identity)}
	_, err := appsv1.NewDeployment(req.Ctx, "plain", &appsv1.DeploymentArgs{
		Spec: appsv1.DeploymentSpecArgs{
			Selector: metav1.LabelSelectorArgs{MatchLabels: labels},
			Template: corev1.PodTemplateSpecArgs{
				Metadata: metav1.ObjectMetaArgs{Labels: labels},
				Spec: corev1.PodSpecArgs{Containers: corev1.ContainerArray{corev1.ContainerArgs{
					Name: pulumi.String("web"), Image: pulumi.String(req.Config.Additional["image"]),
					Env: corev1.EnvVarArray{corev1.EnvVarArgs{Name: pulumi.String("ANSWER"), Value: pulumi.String(req.Config.Additional["answer"])}},
				}}},
			},
		},
	}, opts...)
	if err != nil {
		return err
	}
	service, err := corev1.NewService(req.Ctx, "plain", &corev1.ServiceArgs{
		Spec: corev1.ServiceSpecArgs{
			Type: pulumi.String("NodePort"), Selector: labels, Ports: corev1.ServicePortArray{corev1.ServicePortArgs{Port: pulumi.Int(8080)}},
		},
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("http://%s:%d", req.Config.Additional["host"], service.Spec.Ports().Index(pulumi.Int(0)).NodePort().Elem())
	return nil
}
