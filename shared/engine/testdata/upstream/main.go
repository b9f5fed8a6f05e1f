// A scenario as its authors write them for chall-manager, unchanged.
package main

import (
	"github.com/ctfer-io/chall-manager/sdk"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

func main() {
	sdk.Run(func(req *sdk.Request, resp *sdk.Response, _ ...pulumi.ResourceOption) error {
		resp.ConnectionInfo = pulumi.Sprintf("nc %s %s", req.Config.Identity, req.Config.Additional["port"])
		resp.Flags = pulumi.StringArray{pulumi.String(sdk.Variate(req.Config.Identity, "flag"))}.ToStringArrayOutput()
		return nil
	})
}
