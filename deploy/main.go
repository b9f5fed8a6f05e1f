// The program that `pulumi up` runs in this folder: Mayfly on the cluster that
// the stack's Kubernetes provider is configured with. Pulumi.yaml says what can
// be configured; [stack.Describe] says what comes of it.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/deploy/stack"
)

func main() { pulumi.Run(stack.Describe) }
