package kubernetes

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// A Container is one program of an instance. Only Image must be there.
type Container struct {
	// Image to run, such as ghcr.io/team/web@sha256:…
	Image string
	// ImagePullSecrets name Secrets of the namespace that open the registry.
	ImagePullSecrets []string
	// Command replaces the image's entrypoint, and Args its arguments. $(NAME)
	// in them is replaced by that environment variable.
	Command []string
	Args    []string
	// Ports that the container listens on.
	Ports []PortBinding

	// Envs are environment variables in the open, by name. Their values are
	// taken literally, but for the names of services (see [Printer]).
	Envs map[string]Printer
	// Secrets are environment variables that are kept in a Secret: put flags
	// and passwords here.
	Secrets map[string]string
	// SecretRefs are environment variables that are read from Secrets which are
	// in the namespace already.
	SecretRefs map[string]SecretRef
	// EnvOutputs are environment variables whose values are outputs of other
	// resources. $(NAME) in them is replaced by that environment variable.
	EnvOutputs map[string]pulumi.StringInput

	// Files are put into the container, by absolute path. They can't be
	// written to. A change of one starts the container anew.
	Files map[string]string
	// SecretFiles are as Files, and kept in a Secret.
	SecretFiles map[string]string
	// WritableDirs are empty directories that the container may write to,
	// besides /tmp. With Security.WritableRoot they are not needed.
	WritableDirs []string

	// Requests are what the container is sure to have: "cpu", "memory",
	// "ephemeral-storage". Not given, they are 50m, 64Mi and 16Mi.
	Requests map[string]string
	// Limits are what it can't go beyond. Not given, they are 500m, 256Mi and
	// 256Mi. [None] takes one of these away, or one of the requests.
	Limits map[string]string
	// Replicas is how many run; 0 is 1.
	Replicas int

	// Startup says when the container has started; the instance is ready then,
	// and no other probe begins earlier. By default that is when the first TCP
	// port accepts a connection.
	Startup *Probe
	// Readiness takes the container out of its services while it fails, and
	// Liveness starts it anew. There is none by default: a service that answers
	// one client at a time would be disturbed.
	Readiness *Probe
	Liveness  *Probe

	// Security opens what is closed by default.
	Security Security
	// Egress is what the container may reach beyond the instance. By default
	// that is nothing but the cluster's DNS.
	Egress []Egress
}

// A SecretRef names one value of a Secret.
type SecretRef struct {
	Name string
	Key  string
}

// Security opens what is closed by default. Its zero value is the restricted
// profile of the Pod Security Standards, and a root file system that can't be
// written to.
type Security struct {
	// AllowRoot lets the container run as root, with what a container runtime
	// grants to root by default. Images that say nothing of a user need it.
	AllowRoot bool
	// AllowPrivilegeEscalation lets programs gain more rights, as sudo does.
	AllowPrivilegeEscalation bool
	// SeccompUnconfined lets the container make any system call.
	SeccompUnconfined bool
	// WritableRoot lets the container write to its own copy of the image.
	WritableRoot bool
	// RunAsUser and RunAsGroup replace the user and group of the image; 0 does
	// not.
	RunAsUser  int
	RunAsGroup int
	// AddCapabilities are capabilities of Linux, such as NET_RAW.
	AddCapabilities []string
}

// A Probe asks a container for its state. It requests HTTPPath, or runs
// Command, or, if neither is given, connects to Port.
type Probe struct {
	// HTTPPath must answer with a status from 200 to 399.
	HTTPPath string
	// Command must end with 0. It runs in the container.
	Command []string
	// Port to connect to; 0 is the first TCP port of the container.
	Port int
	// PeriodSeconds is the time between two attempts: 0 is 1 for a startup
	// probe and 10 for the others. TimeoutSeconds is that of one: 0 is 1.
	PeriodSeconds  int
	TimeoutSeconds int
	// FailureThreshold is how many must fail in a row: 0 is 300 for a startup
	// probe and 3 for the others.
	FailureThreshold int
	// Off switches a default probe off.
	Off bool
}
