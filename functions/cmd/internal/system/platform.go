package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/process"
	sdk "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// MaxProcessOutput is how much of what a local process prints is kept, in
// bytes.
const MaxProcessOutput = 16 << 20

// A Platform is where instances run, and what an operator says of it. A worker
// gets it as JSON.
type Platform struct {
	// Installation tells what is ours from what is others' on a shared cluster.
	Installation string
	// Processes lets scenarios run processes of this machine, if it has a
	// directory for them.
	Processes  process.Options
	Kubernetes bool
	// Namespace is for objects that name none; empty is that of the connection.
	Namespace string
	// Policy is a file.
	Policy string
	// Manifests is what scenarios without code do not say of the cluster.
	Manifests manifest.Platform
	// IngressTLS has Ingresses served over TLS, with the certificate in
	// IngressSecret; empty is the controller's own.
	IngressTLS    bool
	IngressSecret string
}

// Register adds a flag for everything that an operator may say.
func (p *Platform) Register(flags *pflag.FlagSet) {
	flags.IntVar(&p.Processes.MaxProcesses, "max-processes", 500, "local processes that instances may run in all")
	flags.BoolVar(&p.Kubernetes, "kubernetes", false, "let scenarios use the cluster of $KUBECONFIG, or of the pod that this runs in")
	flags.StringVar(&p.Namespace, "kubernetes-target-namespace", "", "namespace of instances; empty is that of the connection")
	flags.StringVar(&p.Policy, "kubernetes-policy", "", "`file` with what scenarios may make on the cluster; see shared/docs/policy.md")

	m := &p.Manifests
	flags.StringVar(&m.Hostname, "instance-hostname", "", "`host` that players connect to: for ports that of the cluster's nodes, for Ingresses the domain")
	flags.StringVar(&m.FromCIDR, "instance-from-cidr", "", "`range` that players connect from; empty is everywhere")
	flags.StringVar(&m.IngressClassName, "ingress-class", "", "class of Ingresses; empty is the cluster's default")
	flags.StringVar(&m.IngressNamespace, "ingress-namespace", "", "namespace of the Ingress controller, whose pods alone are let in then")
	flags.StringToStringVar(&m.IngressLabels, "ingress-labels", nil, "labels of the Ingress controller's pods")
	flags.BoolVar(&p.IngressTLS, "ingress-tls", false, "serve Ingresses over TLS")
	flags.StringVar(&p.IngressSecret, "ingress-secret", "", "Secret with the certificate for all names below --instance-hostname; empty is the controller's own")
	flags.StringSliceVar(&m.ClusterCIDRs, "cluster-cidrs", nil, "ranges of the cluster's pods, services and nodes, closed to instances that reach the Internet; empty is all private ones")
	flags.StringVar(&m.DNSNamespace, "dns-namespace", "", "namespace of the cluster's name servers; empty is kube-system")
}

// WorkerCommand returns the program and the arguments that start a worker, see
// [NewWorkerCommand].
func (p Platform) WorkerCommand() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("describe the platform to workers: %w", err)
	}
	return []string{self, "worker", string(encoded)}, nil
}

// WorkerEnvironment is what the providers need: to find commands of processes,
// and to reach the cluster as kubectl would, with a program that logs in.
func WorkerEnvironment() []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		family, _, _ := strings.Cut(name, "_")
		switch name {
		case "PATH", "HOME", "KUBECONFIG", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy":
			env = append(env, variable)
			continue
		}
		switch family {
		case "KUBERNETES", "AWS", "AZURE", "GOOGLE", "CLOUDSDK":
			env = append(env, variable)
		}
	}
	return env
}

// providers returns what makes the resources of scenarios.
func (p Platform) providers() (engine.Providers, error) {
	providers := engine.Providers{}
	if p.Processes.Directory != "" {
		providers[process.Package] = func() (plugin.Provider, error) { return process.NewProvider(p.Processes) }
	}
	if !p.Kubernetes {
		return providers, nil
	}
	options, err := p.cluster()
	if err != nil {
		return nil, err
	}
	providers[kubernetes.Package] = func() (plugin.Provider, error) { return kubernetes.NewProvider(options) }
	return providers, nil
}

// manifests returns what describes instances of scenarios without code.
func (p Platform) manifests() engine.Open {
	var reader manifest.Reader
	on := p.Manifests
	if p.IngressTLS {
		on.TLS = &sdk.IngressTLS{SecretName: p.IngressSecret}
	}
	return func(dir string) (engine.Describe, error) {
		m, err := reader.Load(dir)
		if err != nil {
			return nil, err
		}
		return m.Factory(on).Describe, nil
	}
}

// cluster returns how providers reach the cluster.
func (p Platform) cluster() (kubernetes.Options, error) {
	cluster, err := kubernetes.Connect("")
	if errors.Is(err, kubernetes.ErrNoCluster) {
		return kubernetes.Options{}, fmt.Errorf("%w; set KUBECONFIG, or leave --kubernetes out", err)
	}
	if err != nil {
		return kubernetes.Options{}, err
	}
	o := kubernetes.Options{Cluster: cluster, Namespace: p.Namespace, Installation: p.Installation}
	if p.Policy != "" {
		o.Policy, err = kubernetes.LoadPolicy(p.Policy)
	}
	return o, err
}

// Inventory returns what lists the instances on the platform.
func (p Platform) Inventory() ([]reconcile.Platform, error) {
	providers, err := p.providers()
	if err != nil {
		return nil, err
	}
	var platforms []reconcile.Platform
	for name, open := range providers {
		provider, err := open()
		if err != nil {
			return nil, fmt.Errorf("the provider %s: %w", name, err)
		}
		if lists, ok := provider.(reconcile.Platform); ok {
			platforms = append(platforms, lists)
		}
	}
	return platforms, nil
}
