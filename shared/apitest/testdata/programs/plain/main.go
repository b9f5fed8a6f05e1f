// Command plain is the scenario of the black-box suite, and the service that
// it deploys. What it does is told by the challenge's additional settings:
//
//	info          the connection info; without it, a JSON object that says what
//	              the program was given
//	flag, flags   the outputs of these names; flags are separated by commas
//	fail_preview  fail always, with this text
//	fail          fail when deploying, with this text
//	slow          how long a deployment takes longer
//	number        export a connection info that is no string
//	home          deploy a service that holds a connection to this address for
//	              as long as it runs, and says the identity there
//
// The service is a process, or a pod if the scenario has a file that names an
// image of this program.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

func main() {
	if len(os.Args) == 5 && os.Args[1] == "serve" {
		if err := serve(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	pulumi.Run(describe)
}

func describe(ctx *pulumi.Context) error {
	project := os.Getenv("CM_PROJECT")
	settings := config.New(ctx, project)
	identity := settings.Require("identity")
	var additional map[string]string
	settings.RequireObject("additional", &additional)
	if text, ok := additional["fail_preview"]; ok {
		return errors.New(text)
	}
	if !ctx.DryRun() {
		if text, ok := additional["fail"]; ok {
			return errors.New(text)
		}
		if slow, ok := additional["slow"]; ok {
			d, err := time.ParseDuration(slow)
			if err != nil {
				return err
			}
			time.Sleep(d)
		}
	}
	if home, ok := additional["home"]; ok {
		if err := deploy(ctx, home, identity); err != nil {
			return err
		}
	}
	return export(ctx, project, identity, additional)
}

func deploy(ctx *pulumi.Context, home, identity string) error {
	image, err := os.ReadFile("image")
	if err == nil {
		return deployPod(ctx, string(image), home, identity)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var resource pulumi.CustomResourceState
	return ctx.RegisterResource("process:index:Process", "service", pulumi.Map{
		"command": pulumi.String("service"),
		"files":   pulumi.Map{"service": pulumi.NewFileAsset(self)},
		"args":    pulumi.ToStringArray([]string{"serve", home, identity, processSettles}),
	}, &resource)
}

func deployPod(ctx *pulumi.Context, image, home, identity string) error {
	var resource pulumi.CustomResourceState
	return ctx.RegisterResource("kubernetes:core/v1:Pod", "service", pulumi.Map{
		"metadata": pulumi.Map{"labels": pulumi.StringMap{"mayfly.dev/egress": pulumi.String("open")}},
		"spec": pulumi.Map{
			"automountServiceAccountToken":  pulumi.Bool(false),
			"restartPolicy":                 pulumi.String("Never"),
			"terminationGracePeriodSeconds": pulumi.Int(1),
			"containers": pulumi.MapArray{pulumi.Map{
				"name":  pulumi.String("service"),
				"image": pulumi.String(image),
				"args":  pulumi.ToStringArray([]string{"serve", home, identity, podSettles}),
				"resources": pulumi.Map{"requests": pulumi.StringMap{
					"cpu": pulumi.String("1m"), "memory": pulumi.String("8Mi"),
				}},
			}},
		},
	}, &resource)
}

func export(ctx *pulumi.Context, project, identity string, additional map[string]string) error {
	info, ok := additional["info"]
	if !ok {
		given, err := json.Marshal(map[string]any{"project": project, "identity": identity, "additional": additional})
		if err != nil {
			return err
		}
		info = string(given)
	}
	ctx.Export("connection_info", pulumi.String(info))
	if _, ok := additional["number"]; ok {
		ctx.Export("connection_info", pulumi.Float64(7))
	}
	if flag, ok := additional["flag"]; ok {
		ctx.Export("flag", pulumi.String(flag))
	}
	if flags, ok := additional["flags"]; ok {
		ctx.Export("flags", pulumi.ToStringArray(strings.Split(flags, ",")))
	}
	return nil
}

// These are well above the time from the start of the service to the end of its
// deployment.
const (
	processSettles = "700ms"
	podSettles     = "10s"
)

// serve opens its port, so that it counts as ready, calls home and stays until
// home hangs up or it is killed.
func serve(home, identity, settles string) error {
	settling, err := time.ParseDuration(settles)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		return err
	}
	defer l.Close()
	conn, err := call(home)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, identity); err != nil {
		return err
	}
	time.Sleep(settling)
	if _, err := fmt.Fprintln(conn, "settled"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// callWithin is how long a fresh pod may not be let out.
const callWithin = 10 * time.Second

func call(home string) (conn net.Conn, err error) {
	for late := time.Now().Add(callWithin); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		if conn, err = net.Dial("tcp", home); err == nil {
			return conn, nil
		}
	}
	return nil, err
}
