// Package process describes programs that run on the machine of Mayfly itself:
// instances on a laptop, without a cluster. It only registers resources; it
// knows nothing of how a program is started.
package process

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Args describe a program. A change of any of them but ReadyTimeout starts it
// anew.
type Args struct {
	// Command is one of Files, an absolute path, or the name of a program on
	// Mayfly's search path. It must stay in the foreground and listen on
	// 127.0.0.1, on the port that its environment variable PORT names.
	Command pulumi.StringInput
	// Args are its arguments; {port} in them is replaced by the port.
	Args pulumi.StringArrayInput
	// Env is its environment, besides PATH and PORT; {port} in a value is
	// replaced by the port. Nothing else is in it.
	Env pulumi.StringMapInput
	// Files are put into its working directory, by path. A file asset's path is
	// relative to the scenario. The one that Command names is made executable.
	Files map[string]pulumi.Asset
	// ReadyTimeout is how long it may take until it answers; 0 is 30 seconds.
	ReadyTimeout time.Duration
}

// A Process is a program that runs and answers.
type Process struct {
	pulumi.CustomResourceState

	// Address is host:port of the program.
	Address pulumi.StringOutput `pulumi:"address"`
	// Port is the port of the program.
	Port pulumi.IntOutput `pulumi:"port"`
}

// New registers a program. Its name must differ from those of the scenario's
// other programs.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Process, error) {
	props, err := args.properties()
	if err != nil {
		return nil, fmt.Errorf("process %s: %w", name, err)
	}
	p := new(Process)
	if err := ctx.RegisterResource("process:index:Process", name, props, p, opts...); err != nil {
		return nil, fmt.Errorf("process %s: %w", name, err)
	}
	return p, nil
}

func (a *Args) properties() (pulumi.Map, error) {
	props := make(pulumi.Map)
	if a == nil {
		return props, nil
	}
	if a.Command != nil {
		props["command"] = a.Command
	}
	if a.Args != nil {
		props["args"] = a.Args
	}
	if a.Env != nil {
		props["env"] = a.Env
	}
	if a.ReadyTimeout != 0 {
		props["readyTimeout"] = pulumi.Float64(a.ReadyTimeout.Seconds())
	}
	if len(a.Files) == 0 {
		return props, nil
	}
	files := make(pulumi.Map, len(a.Files))
	for path, content := range a.Files {
		located, err := locate(content)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", path, err)
		}
		files[path] = located
	}
	props["files"] = files
	return props, nil
}

// locate makes the path of an asset absolute: who reads it is another process,
// with another working directory.
func locate(content pulumi.Asset) (pulumi.Asset, error) {
	if content == nil || content.Path() == "" {
		return content, nil
	}
	path, err := filepath.Abs(content.Path())
	if err != nil {
		return nil, err
	}
	return pulumi.NewFileAsset(path), nil
}
