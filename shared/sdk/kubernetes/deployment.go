package kubernetes

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// contentsAnnotation changes with the files and secrets of a container, so
	// that it starts anew when they do: nothing else would tell it.
	contentsAnnotation = "mayfly.dev/contents"
	// graceSeconds is how long a container may take to stop. Shells that are
	// the first process of a container take all of it, as they ignore SIGTERM.
	graceSeconds = 5
	// privilegedPorts are those below, which only root may listen on.
	privilegedPorts = 1024
)

// containerObjects are the objects of a container, but those of its ports. The
// policy is there before the pods that it confines.
func (a *ExposedMultipodArgs) containerObjects(name string, c Container) ([]Object, error) {
	objects := []Object{{Name: name, Body: a.networkPolicy(name, c)}}
	if len(c.Files) > 0 {
		objects = append(objects, Object{Name: name, Body: a.configMap(name, c)})
	}
	if len(c.Secrets)+len(c.SecretFiles) > 0 {
		objects = append(objects, Object{Name: name, Body: a.secret(name, c), Sensitive: true})
	}
	body, err := a.deployment(name, c)
	if err != nil {
		return nil, err
	}
	deployment := Object{Name: name, Body: body}
	for _, o := range objects {
		deployment.After = append(deployment.After, o.Key())
	}
	for _, needed := range a.needs(name) {
		deployment.After = append(deployment.After, "Deployment/"+needed)
	}
	return append(objects, deployment), nil
}

func (a *ExposedMultipodArgs) configMap(name string, c Container) map[string]any {
	object := a.object("v1", "ConfigMap", name, a.name(name))
	data, binary := make(map[string]any), make(map[string]any)
	for file, content := range c.Files {
		if utf8.ValidString(content) {
			data[fileKey(file)] = content
		} else {
			binary[fileKey(file)] = base64.StdEncoding.EncodeToString([]byte(content))
		}
	}
	if len(data) > 0 {
		object["data"] = data
	}
	if len(binary) > 0 {
		object["binaryData"] = binary
	}
	return object
}

func (a *ExposedMultipodArgs) secret(name string, c Container) map[string]any {
	data := make(map[string]any)
	for env, value := range c.Secrets {
		data[secretKey(env)] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	for file, content := range c.SecretFiles {
		data[fileKey(file)] = base64.StdEncoding.EncodeToString([]byte(content))
	}
	object := a.object("v1", "Secret", name, a.name(name))
	object["type"] = "Opaque"
	object["data"] = data
	return object
}

// fileKey is the key of a file, whose path may have characters that a key may
// not.
func fileKey(file string) string {
	sum := sha1.Sum([]byte(file))
	return hex.EncodeToString(sum[:])
}

// secretKey is the key of an environment variable, which no file has.
func secretKey(env string) string { return "env." + env }

func (a *ExposedMultipodArgs) deployment(name string, c Container) (map[string]any, error) {
	pod, err := a.pod(name, c)
	if err != nil {
		return nil, err
	}
	labels := a.labels(name)
	labels[egressLabel] = "declared"
	metadata := map[string]any{"labels": labels}
	if contents := a.contents(c); contents != "" {
		metadata["annotations"] = map[string]any{contentsAnnotation: contents}
	}
	object := a.object("apps/v1", "Deployment", name, a.name(name))
	object["spec"] = map[string]any{
		"replicas":             cmp.Or(c.Replicas, 1),
		"revisionHistoryLimit": 0, // nothing ever goes back
		"selector":             map[string]any{"matchLabels": a.selector(name)},
		"template":             map[string]any{"metadata": metadata, "spec": pod},
	}
	return object, nil
}

// contents is a digest of what the pods do not notice when it changes. It is
// keyed, as a flag alone could be guessed from its digest.
func (a *ExposedMultipodArgs) contents(c Container) string {
	mac := hmac.New(sha256.New, []byte(a.Identity))
	count := 0
	for _, part := range []map[string]string{c.Files, c.SecretFiles, c.Secrets} {
		for _, key := range sortedKeys(part) {
			write(mac, key, part[key])
			count++
		}
		write(mac, "")
	}
	if count == 0 {
		return ""
	}
	return hex.EncodeToString(mac.Sum(nil))[:32]
}

// pod is the specification of a container's pods.
func (a *ExposedMultipodArgs) pod(name string, c Container) (map[string]any, error) {
	env, err := a.env(name, c)
	if err != nil {
		return nil, err
	}
	container := map[string]any{
		"name":            name,
		"image":           c.Image,
		"resources":       c.resources(),
		"securityContext": c.Security.context(),
	}
	put(container, "command", list(c.Command))
	put(container, "args", list(c.Args))
	put(container, "env", env)
	put(container, "ports", containerPorts(c))
	volumes, mounts := a.volumes(name, c)
	put(container, "volumeMounts", mounts)
	c.putProbes(container)
	spec := map[string]any{
		"automountServiceAccountToken":  false,
		"enableServiceLinks":            false, // they would name the services of all instances
		"terminationGracePeriodSeconds": graceSeconds,
		"containers":                    []any{container},
	}
	put(spec, "volumes", volumes)
	var pull []any
	for _, secret := range c.ImagePullSecrets {
		pull = append(pull, map[string]any{"name": secret})
	}
	put(spec, "imagePullSecrets", pull)
	if security := c.podSecurity(); len(security) > 0 {
		spec["securityContext"] = security
	}
	return spec, nil
}

// env lists the environment, by name.
func (a *ExposedMultipodArgs) env(name string, c Container) ([]any, error) {
	values := make(map[string]map[string]any)
	for key, printer := range c.Envs {
		text, err := a.text(printer)
		if err != nil {
			return nil, err
		}
		// Kubernetes would replace $(NAME), and $$ by $.
		values[key] = map[string]any{"value": strings.ReplaceAll(text, "$", "$$")}
	}
	for key, value := range c.EnvOutputs {
		values[key] = map[string]any{"value": value}
	}
	for key := range c.Secrets {
		values[key] = fromSecret(SecretRef{Name: a.name(name), Key: secretKey(key)})
	}
	for key, ref := range c.SecretRefs {
		values[key] = fromSecret(ref)
	}
	var env []any
	for _, key := range sortedKeys(values) {
		values[key]["name"] = key
		env = append(env, values[key])
	}
	return env, nil
}

func fromSecret(ref SecretRef) map[string]any {
	return map[string]any{"valueFrom": map[string]any{
		"secretKeyRef": map[string]any{"name": ref.Name, "key": ref.Key},
	}}
}

func containerPorts(c Container) []any {
	var ports []any
	for _, p := range sortedPorts(c.Ports) {
		ports = append(ports, map[string]any{"containerPort": p.Port, "protocol": p.protocol()})
	}
	return ports
}

func sortedPorts(ports []PortBinding) []PortBinding {
	return slices.SortedFunc(slices.Values(ports), func(a, b PortBinding) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.protocol(), b.protocol()))
	})
}

// volumes are those of the pod and where the container has them.
func (a *ExposedMultipodArgs) volumes(name string, c Container) (volumes, mounts []any) {
	const readable = 0o444
	if len(c.Files) > 0 {
		volumes = append(volumes, map[string]any{
			"name": "files", "configMap": map[string]any{"name": a.name(name), "defaultMode": readable},
		})
		mounts = append(mounts, fileMounts("files", c.Files)...)
	}
	if len(c.SecretFiles) > 0 {
		volumes = append(volumes, map[string]any{
			"name": "secret-files", "secret": map[string]any{"secretName": a.name(name), "defaultMode": readable},
		})
		mounts = append(mounts, fileMounts("secret-files", c.SecretFiles)...)
	}
	if dirs := c.writableDirs(); len(dirs) > 0 {
		volumes = append(volumes, map[string]any{"name": "scratch", "emptyDir": map[string]any{}})
		for _, dir := range dirs {
			mounts = append(mounts, map[string]any{
				"name": "scratch", "mountPath": dir, "subPath": strings.TrimPrefix(dir, "/"),
			})
		}
	}
	return volumes, mounts
}

func fileMounts(volume string, files map[string]string) []any {
	var mounts []any
	for _, file := range sortedKeys(files) {
		mounts = append(mounts, map[string]any{
			"name": volume, "mountPath": file, "subPath": fileKey(file), "readOnly": true,
		})
	}
	return mounts
}

// writableDirs are the directories that can be written to although the root
// can't.
func (c Container) writableDirs() []string {
	dirs := slices.Clone(c.WritableDirs)
	if !c.Security.WritableRoot {
		dirs = append(dirs, "/tmp")
	}
	for i, dir := range dirs {
		dirs[i] = path.Clean(dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// put sets a list that is not empty.
func put(object map[string]any, key string, value []any) {
	if len(value) > 0 {
		object[key] = value
	}
}

func list(of []string) []any {
	var out []any
	for _, s := range of {
		out = append(out, s)
	}
	return out
}

// write feeds parts to a digest, each with its length in front, so that no two
// lists give the same.
func write(to hash.Hash, parts ...string) {
	for _, part := range parts {
		to.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		to.Write([]byte(part))
	}
}
