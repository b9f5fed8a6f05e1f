// Command scenario is a scenario of the tests: it describes what the setting
// args says, as JSON, and shows all addresses, as JSON too.
package main

import (
	"encoding/json"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

func main() {
	sdk.Run(func(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
		if text := req.Config.Additional["monopod"]; text != "" {
			args := new(kubernetes.ExposedMonopodArgs)
			if err := json.Unmarshal([]byte(text), args); err != nil {
				return fmt.Errorf("read the setting monopod: %w", err)
			}
			args.Identity = req.Config.Identity
			pod, err := kubernetes.NewExposedMonopod(req.Ctx, "kit", args, opts...)
			if err != nil {
				return err
			}
			resp.ConnectionInfo = pulumi.JSONMarshal(pulumi.StringMapMap{"one": pod.URLs})
			return nil
		}
		args := new(kubernetes.ExposedMultipodArgs)
		if err := json.Unmarshal([]byte(req.Config.Additional["multipod"]), args); err != nil {
			return fmt.Errorf("read the setting multipod: %w", err)
		}
		args.Identity = req.Config.Identity
		pods, err := kubernetes.NewExposedMultipod(req.Ctx, "kit", args, opts...)
		if err != nil {
			return err
		}
		resp.ConnectionInfo = pulumi.JSONMarshal(pods.URLs)
		return nil
	})
}
