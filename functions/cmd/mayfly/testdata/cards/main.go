// Command cards is a scenario whose instances are two ConfigMaps, of which an
// update changes the one and replaces the other.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

func main() { sdk.Run(describe) }

func describe(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	for name, immutable := range map[string]bool{"open": false, "sealed": true} {
		inputs := pulumi.Map{
			"data":      pulumi.StringMap{"round": pulumi.String(req.Config.Additional["round"])},
			"immutable": pulumi.Bool(immutable),
		}
		if err := req.Ctx.RegisterResource("kubernetes:core/v1:ConfigMap", name, inputs, new(pulumi.CustomResourceState), opts...); err != nil {
			return err
		}
	}
	resp.ConnectionInfo = pulumi.String("the cards " + req.Config.Identity)
	return nil
}
