// Command riddle is a scenario: each instance is a service that asks a riddle
// and gives the one who solves it a flag that no other instance has.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/process"
)

func main() { sdk.Run(describe) }

func describe(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	flag := "MAYFLY{" + sdk.Variate(req.Config.Identity, "one_day_is_a_long_life") + "}"
	service, err := process.New(req.Ctx, "riddle", &process.Args{
		Command: pulumi.String("./service"),
		Files:   map[string]pulumi.Asset{"service": pulumi.NewFileAsset("service")},
		Env:     pulumi.StringMap{"FLAG": pulumi.ToSecret(pulumi.String(flag)).(pulumi.StringOutput)},
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("nc 127.0.0.1 %d", service.Port)
	resp.Flags = pulumi.StringArray{pulumi.String(flag)}
	return nil
}
