package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/constant"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// An execRuntime runs a scenario that is a program, built beforehand.
type execRuntime struct {
	plugin.LanguageRuntime // the engine calls nothing but what is below
	operation              *operation
	engine                 string
}

// GetRequiredPackages names none: what a program needs shows when it runs.
func (r *execRuntime) GetRequiredPackages(
	context.Context, plugin.ProgramInfo,
) ([]workspace.PackageDescriptor, []workspace.PackageSpec, error) {
	return nil, nil, nil
}

// Cancel does nothing: the program ends with the operation.
func (r *execRuntime) Cancel(context.Context) error { return nil }

// Close does nothing: nothing outlives Run.
func (r *execRuntime) Close() error { return nil }

// Run runs the program to its end. What went wrong is added to the words, and
// bail tells the engine so.
func (r *execRuntime) Run(_ context.Context, info plugin.RunInfo) (message string, bail bool, err error) {
	o := r.operation
	env, err := environment(o.job.Program, info, r.engine)
	if err != nil {
		return "", false, err
	}
	ports, err := portsOf(info.MonitorAddress, r.engine)
	if err != nil {
		return "", false, err
	}
	p := program{
		binary: o.job.Program.Binary, dir: o.job.Program.Dir, temporary: scratch(o.job.Program.Temporary), env: env, ports: ports,
		memory: o.job.Program.Memory, timeout: o.job.Program.Timeout, watch: o.watch,
		started: func(group int) error { return o.session.report(report{Group: group}) },
	}
	err = p.run(o.ctx) //nolint:contextcheck // what the engine gives never ends
	var exit *exitError
	var load *loadError
	switch {
	case err == nil:
		return "", false, nil
	case errors.As(err, &exit) && exit.code == constant.ExitStatusLoggedError:
		return "", true, nil // it told through the log
	case errors.As(err, &load):
		o.unloadable = true
	}
	o.words.add("", err.Error())
	return "", true, nil
}

// environment is all that a program sees: what Pulumi's SDK reads, and what
// the contract with scenarios names.
func environment(p *programJob, info plugin.RunInfo, engine string) ([]string, error) {
	settings := map[string]string{}
	for key, value := range info.Config {
		settings[key.String()] = value
	}
	encoded, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("encode the program's settings: %w", err)
	}
	env := []string{
		pulumi.EnvProject + "=" + info.Project,
		pulumi.EnvStack + "=" + info.Stack,
		pulumi.EnvOrganization + "=" + info.Organization,
		pulumi.EnvPulumiRootDirectory + "=" + p.Dir,
		pulumi.EnvConfig + "=" + string(encoded),
		pulumi.EnvConfigSecretKeys + "=[]",
		pulumi.EnvDryRun + "=" + strconv.FormatBool(info.DryRun),
		pulumi.EnvParallel + "=" + strconv.Itoa(int(info.Parallel)),
		pulumi.EnvMonitor + "=" + info.MonitorAddress,
		pulumi.EnvEngine + "=" + engine,
		"PULUMI_CONFIG_PASSPHRASE=",
		"CM_PROJECT=" + info.Project,
		"TMPDIR=" + p.Temporary,
	}
	if p.TargetNamespace != "" {
		env = append(env, "KUBERNETES_TARGET_NAMESPACE="+p.TargetNamespace)
	}
	return env, nil
}

func portsOf(addresses ...string) ([]uint16, error) {
	var ports []uint16
	for _, address := range addresses {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("read the address %q: %w", address, err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("read the address %q: %w", address, err)
		}
		ports = append(ports, uint16(n))
	}
	return ports, nil
}
