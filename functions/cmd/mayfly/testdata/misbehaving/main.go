// Command misbehaving is a scenario of one local process that misbehaves when
// it is told to: in preview as the setting preview says, and once its process
// answers as the setting up says.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

type process struct {
	pulumi.CustomResourceState

	Address pulumi.StringOutput `pulumi:"address"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "linger" {
		select {}
	}
	pulumi.Run(func(ctx *pulumi.Context) error {
		var settings map[string]string
		if err := config.New(ctx, ctx.Project()).TryObject("additional", &settings); err != nil {
			return fmt.Errorf("read additional: %w", err)
		}
		if ctx.DryRun() {
			if err := misbehave(settings["preview"]); err != nil {
				return err
			}
		}
		p, err := start(ctx, settings)
		if err != nil {
			return err
		}
		ctx.Export("connection_info", p.Address)
		if settings["preview"] == "number" || !ctx.DryRun() && settings["up"] == "number" {
			ctx.Export("connection_info", pulumi.Int(7))
		}
		ctx.Export("done", p.Address.ApplyT(func(address string) (string, error) {
			return address, misbehave(settings["up"])
		}))
		return nil
	})
}

func start(ctx *pulumi.Context, settings map[string]string) (*process, error) {
	program, err := filepath.Abs("program")
	if err != nil {
		return nil, err
	}
	command := "./program"
	if name, ok := settings["command"]; ok {
		command = name
	}
	p := new(process)
	return p, ctx.RegisterResource("process:index:Process", "service", pulumi.Map{
		"command": pulumi.String(command),
		"files":   pulumi.Map{"program": pulumi.NewFileAsset(program)},
		"env":     pulumi.StringMap{"ROUND": pulumi.String(settings["round"])},
	}, p)
}

func misbehave(how string) error {
	switch how {
	case "error":
		return fmt.Errorf("there is no cheese")
	case "exit":
		fmt.Fprintln(os.Stderr, "the cheese shop is closed")
		os.Exit(1)
	case "panic":
		var cheese map[string]int
		cheese["gouda"]++
	case "hang":
		select {}
	case "slow":
		time.Sleep(3 * time.Second)
	case "print":
		print100MB()
	case "print-and-exit":
		print100MB()
		fmt.Println("that was all the cheese")
		os.Exit(1)
	case "allocate":
		var kept [][]byte
		for {
			kept = append(kept, bytes.Repeat([]byte{1}, 16<<20))
		}
	case "escape":
		return escape()
	}
	return nil
}

func print100MB() {
	line := append(bytes.Repeat([]byte("x"), 1<<20-1), '\n')
	for range 100 {
		_, _ = os.Stdout.Write(line)
	}
}

// escape leaves children behind, one of them in a session of its own if it may,
// and fails.
func escape() error {
	for _, session := range []bool{false, true} {
		child := exec.Command("./main", "linger")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
		_ = child.Start()
	}
	return fmt.Errorf("my children will go on")
}
