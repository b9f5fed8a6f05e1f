// Command empty describes an instance that is made of nothing.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

func main() {
	sdk.Run(func(req *sdk.Request, resp *sdk.Response, _ ...pulumi.ResourceOption) error {
		resp.ConnectionInfo = pulumi.String("nc " + req.Config.Identity + ".example 1337")
		resp.Flags = pulumi.StringArray{pulumi.String(sdk.Variate(req.Config.Identity, "made_of_nothing"))}
		return nil
	})
}
