// Command scenario is a scenario whose instances cost nearly nothing: each is a
// ConfigMap. With the setting image it is a pod of that image as well, which
// counts as ready only after as many seconds as the setting late says.
package main

import (
	"fmt"
	"strconv"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

func main() { pulumi.Run(describe) }

func describe(ctx *pulumi.Context) error {
	var settings map[string]string
	if err := config.New(ctx, ctx.Project()).TryObject("additional", &settings); err != nil {
		return fmt.Errorf("read additional: %w", err)
	}
	var note pulumi.CustomResourceState
	err := ctx.RegisterResource("kubernetes:core/v1:ConfigMap", "note", pulumi.Map{"data": pulumi.ToStringMap(settings)}, &note)
	if err != nil {
		return err
	}
	if image, ok := settings["image"]; ok {
		if err := deploy(ctx, image, settings["late"]); err != nil {
			return err
		}
	}
	ctx.Export("connection_info", pulumi.String("round "+settings["round"]))
	return nil
}

func deploy(ctx *pulumi.Context, image, after string) error {
	seconds, err := strconv.Atoi(after)
	if err != nil {
		return fmt.Errorf("read the setting late: %w", err)
	}
	name := pulumi.StringMap{"app": pulumi.String("late")}
	var late pulumi.CustomResourceState
	return ctx.RegisterResource("kubernetes:apps/v1:Deployment", "late", pulumi.Map{"spec": pulumi.Map{
		"selector": pulumi.Map{"matchLabels": name},
		"template": pulumi.Map{
			"metadata": pulumi.Map{"labels": name},
			"spec": pulumi.Map{
				"automountServiceAccountToken":  pulumi.Bool(false),
				"terminationGracePeriodSeconds": pulumi.Int(1),
				"containers": pulumi.MapArray{pulumi.Map{
					"name":  pulumi.String("late"),
					"image": pulumi.String(image),
					"env":   pulumi.MapArray{pulumi.Map{"name": pulumi.String("PORT"), "value": pulumi.String("8080")}},
					"readinessProbe": pulumi.Map{
						"tcpSocket":           pulumi.Map{"port": pulumi.Int(8080)},
						"initialDelaySeconds": pulumi.Int(seconds),
						"periodSeconds":       pulumi.Int(1),
					},
					"resources": pulumi.Map{"requests": pulumi.StringMap{
						"cpu": pulumi.String("1m"), "memory": pulumi.String("8Mi"),
					}},
				}},
			},
		},
	}}, &late)
}
