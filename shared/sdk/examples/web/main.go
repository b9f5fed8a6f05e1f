// Command web is a scenario: each instance is a web server on Kubernetes, with a
// host name of its own and a flag that no other instance has.
package main

import (
	"cmp"
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

func main() { sdk.Run(describe) }

func describe(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	settings := req.Config.Additional
	if settings["image"] == "" {
		return errors.New("the challenge needs the additional setting image, which listens on port 8080")
	}
	digits, err := sdk.Derive(settings["secret"], req.Config.Identity)
	if err != nil {
		return err
	}
	flag := "MAYFLY{" + digits[:32] + "}"
	pod, err := kubernetes.NewExposedMonopod(req.Ctx, "web", &kubernetes.ExposedMonopodArgs{
		Identity: req.Config.Identity,
		Hostname: cmp.Or(settings["hostname"], "ctf.example"),
		Container: kubernetes.Container{
			Image:   settings["image"],
			Ports:   []kubernetes.PortBinding{{Port: 8080, ExposeType: kubernetes.ExposeIngress}},
			Secrets: map[string]string{"FLAG": flag},
		},
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("http://%s", pod.URLs.MapIndex(pulumi.String("8080/TCP")))
	resp.Flags = pulumi.StringArray{pulumi.String(flag)}
	return nil
}
