// Package sdk is what authors of scenarios import: it turns a function that
// describes one instance into a program that Mayfly can run. It knows Pulumi's
// SDK and nothing of how Mayfly works; it links no provider's SDK, as that is
// what makes programs large and slow to start.
package sdk

import (
	"errors"
	"fmt"
	"os"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

const (
	// projectVariable names the project whose configuration is meant.
	projectVariable = "CM_PROJECT"
	// namespaceVariable asks for a Kubernetes provider with that namespace.
	namespaceVariable = "KUBERNETES_TARGET_NAMESPACE"
)

// A Factory describes the resources of one instance. It hands opts to each
// resource that it registers, so that they go where the operator wants them.
// Run again for the same request it must describe the same.
type Factory func(req *Request, resp *Response, opts ...pulumi.ResourceOption) error

// A Request says which instance is to be described.
type Request struct {
	Ctx    *pulumi.Context
	Config *Configuration
}

// A Response is what a player gets.
type Response struct {
	// ConnectionInfo tells the player how to reach the instance.
	ConnectionInfo pulumi.StringInput
	// Flag is the one flag of the instance.
	//
	// Deprecated: use Flags.
	Flag pulumi.StringInput
	// Flags are what solves the challenge; none leaves that to the platform.
	Flags pulumi.StringArrayInput
}

// Configuration is what a scenario learns of its instance.
type Configuration struct {
	// Identity names the instance. It is random and no secret; derive from it
	// whatever must differ between instances, such as names and flags.
	Identity string
	// Additional are the settings of the challenge and of who asked for the
	// instance. It is never nil.
	Additional map[string]string
}

// Run is a whole main function: it runs the factory for the instance that the
// environment names and reports what came of it. After a failure it ends the
// process.
func Run(factory Factory) {
	pulumi.Run(func(ctx *pulumi.Context) error {
		return factory.Describe(ctx, os.Getenv(projectVariable), os.Getenv(namespaceVariable))
	})
}

// Describe runs the factory in a program that is running already, and exports
// what came of it. An empty project is the program's own; a namespace is the
// Kubernetes namespace to target, unless it is empty.
func (f Factory) Describe(ctx *pulumi.Context, project, namespace string) error {
	conf, err := Load(ctx, project)
	if err != nil {
		return err
	}
	opts, err := target(ctx, namespace)
	if err != nil {
		return err
	}
	resp := new(Response)
	if err := f(&Request{Ctx: ctx, Config: conf}, resp, opts...); err != nil {
		return err
	}
	resp.export(ctx)
	return nil
}

// Load reads the configuration of the project; an empty name is the project
// that runs. It fails without an identity, and if additional is no object of
// strings.
func Load(ctx *pulumi.Context, project string) (*Configuration, error) {
	if project == "" {
		project = ctx.Project()
	}
	conf := config.New(ctx, project)
	identity, err := conf.Try("identity")
	if err != nil {
		return nil, fmt.Errorf("read the identity of the instance: %w", err)
	}
	additional := make(map[string]string)
	err = conf.TryObject("additional", &additional)
	if err != nil && !errors.Is(err, config.ErrMissingVar) {
		return nil, fmt.Errorf("read the additional settings: %w", err)
	}
	if additional == nil { // it was null
		additional = make(map[string]string)
	}
	return &Configuration{Identity: identity, Additional: additional}, nil
}

// target registers the Kubernetes provider that an operator's namespace asks
// for.
func target(ctx *pulumi.Context, namespace string) ([]pulumi.ResourceOption, error) {
	if namespace == "" {
		return nil, nil
	}
	var provider struct{ pulumi.ProviderResourceState }
	props := pulumi.Map{"namespace": pulumi.String(namespace)}
	if err := ctx.RegisterResource("pulumi:providers:kubernetes", "target", props, &provider); err != nil {
		return nil, fmt.Errorf("target the namespace %s: %w", namespace, err)
	}
	return []pulumi.ResourceOption{pulumi.Provider(&provider)}, nil
}

func (r *Response) export(ctx *pulumi.Context) {
	if r.ConnectionInfo == nil {
		r.ConnectionInfo = pulumi.String("")
	}
	if r.Flags == nil {
		r.Flags = pulumi.StringArray{}
	}
	ctx.Export("connection_info", r.ConnectionInfo)
	if r.Flag != nil {
		ctx.Export("flag", r.Flag)
	}
	ctx.Export("flags", r.Flags)
}
