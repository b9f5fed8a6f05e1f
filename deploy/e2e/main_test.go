//go:build cluster

package e2e_test

import (
	"context"
	"os"
	"testing"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"

	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// TestMain is a worker of the engine when it is told to, as the binary of a real
// service is. The stack's name is the instance's identity.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "worker" {
		cluster, err := kubernetes.Connect("")
		if err != nil {
			panic(err)
		}
		options := kubernetes.Options{Cluster: cluster, Policy: &kubernetes.Policy{
			Kinds: []string{"*"}, Namespaces: []string{"mayfly-{identity}", "mayfly-{identity}-instances"},
			PodSecurity: "restricted", SelectAnyPods: true,
		}}
		os.Exit(engine.Work(context.Background(), engine.Providers{
			kubernetes.Package: func() (plugin.Provider, error) { return kubernetes.NewProvider(options) },
		}, nil))
	}
	os.Exit(m.Run())
}
