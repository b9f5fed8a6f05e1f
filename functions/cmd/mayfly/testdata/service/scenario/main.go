// Command scenario describes an instance that is one local process.
package main

import (
	"fmt"
	"path/filepath"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

type process struct {
	pulumi.CustomResourceState

	Address pulumi.StringOutput `pulumi:"address"`
}

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		program, err := filepath.Abs("program")
		if err != nil {
			return err
		}
		var settings map[string]string
		if err := config.New(ctx, ctx.Project()).TryObject("additional", &settings); err != nil {
			return fmt.Errorf("read additional: %w", err)
		}
		command := "./program"
		if other := settings["command"]; other != "" {
			command = other
		}
		inputs := pulumi.Map{
			"command": pulumi.String(command),
			"files":   pulumi.Map{"program": pulumi.NewFileAsset(program)},
			"env":     pulumi.StringMap{"ROUND": pulumi.String(settings["round"])},
		}
		if settings["patient"] != "" {
			inputs["readyTimeout"] = pulumi.Float64(600)
		}
		var p process
		if err := ctx.RegisterResource("process:index:Process", "service", inputs, &p); err != nil {
			return err
		}
		ctx.Export("connection_info", p.Address)
		return nil
	})
}
