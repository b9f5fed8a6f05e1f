// Command cards is a scenario whose instances cost next to nothing: two
// ConfigMaps. The second one is made later, by the setting wait.
package main

import (
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

func main() { sdk.Run(describe) }

func describe(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	var wait time.Duration
	if text := req.Config.Additional["wait"]; text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil {
			return err
		}
	}
	identity := req.Config.Identity
	front, err := card(req.Ctx, "front", pulumi.String(identity), opts)
	if err != nil {
		return err
	}
	later := front.ID().ApplyT(func(pulumi.ID) string {
		time.Sleep(wait)
		return identity
	}).(pulumi.StringOutput)
	if _, err := card(req.Ctx, "back", later, opts); err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.String("the card " + identity)
	resp.Flags = pulumi.StringArray{pulumi.String("CTF{" + identity + "}")}
	return nil
}

func card(ctx *pulumi.Context, name string, text pulumi.StringInput, opts []pulumi.ResourceOption) (*pulumi.CustomResourceState, error) {
	made := new(pulumi.CustomResourceState)
	err := ctx.RegisterResource("kubernetes:core/v1:ConfigMap", name, pulumi.Map{"data": pulumi.StringMap{"text": text}}, made, opts...)
	return made, err
}
