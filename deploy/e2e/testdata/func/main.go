// Command func stands for Knative's func where that can't be had. It makes of
// func.yaml what `func deploy --build=false --push=false --image IMAGE` makes of
// it, with kn.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "func:", err)
		os.Exit(1)
	}
}

func run(what string, args []string) error {
	flags := flag.NewFlagSet(what, flag.ExitOnError)
	image := flags.String("image", "", "the image")
	build, push := flags.Bool("build", true, "no"), flags.Bool("push", true, "no")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if what != "deploy" || *image == "" || *build || *push {
		return fmt.Errorf("%s %q is not what this one can do", what, args)
	}
	text, err := os.ReadFile("func.yaml")
	if err != nil {
		return err
	}
	var f function
	if err := yaml.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("func.yaml: %w", err)
	}
	service, err := yaml.Marshal(f.service(*image))
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "service-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(service); err != nil {
		return err
	}
	kn := exec.Command("kn", "service", "apply", f.Name, "--filename", file.Name(), "--namespace", f.Namespace)
	kn.Stdout, kn.Stderr = os.Stdout, os.Stderr
	return kn.Run()
}

// A function is what func.yaml says of one, as far as ours does.
type function struct {
	Name, Namespace string
	Run             struct {
		Envs    []corev1.EnvVar
		Volumes []struct {
			Path     string
			EmptyDir corev1.EmptyDirVolumeSource
		}
	}
	Deploy struct {
		ServiceAccountName string
		HealthEndpoints    struct{ Liveness, Readiness string }
		Labels             []struct{ Key, Value string }
		Options            struct {
			Scale     scale
			Resources struct {
				Requests struct{ CPU, Memory resource.Quantity }
				Limits   struct {
					CPU, Memory resource.Quantity
					Concurrency *int64
				}
			}
		}
	}
}

type scale struct {
	Min, Max            *int64
	Metric              *string
	Target, Utilization *float64
}

// annotations are those of Knative's autoscaler.
func (s scale) annotations() map[string]string {
	notes := map[string]string{}
	for key, value := range map[string]*int64{autoscaling.MinScaleAnnotationKey: s.Min, autoscaling.MaxScaleAnnotationKey: s.Max} {
		if value != nil {
			notes[key] = strconv.FormatInt(*value, 10)
		}
	}
	for key, value := range map[string]*float64{
		autoscaling.TargetAnnotationKey: s.Target, autoscaling.TargetUtilizationPercentageKey: s.Utilization,
	} {
		if value != nil {
			notes[key] = fmt.Sprintf("%f", *value)
		}
	}
	if s.Metric != nil {
		notes[autoscaling.MetricAnnotationKey] = *s.Metric
	}
	return notes
}

func (f function) service(image string) *servingv1.Service {
	labels := map[string]string{}
	for _, l := range f.Deploy.Labels {
		labels[l.Key] = l.Value
	}
	service := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: f.Name, Namespace: f.Namespace, Labels: labels}}
	service.APIVersion, service.Kind = servingv1.SchemeGroupVersion.String(), "Service"
	template := &service.Spec.Template
	template.Labels, template.Annotations = labels, f.Deploy.Options.Scale.annotations()
	template.Spec.ServiceAccountName = f.Deploy.ServiceAccountName
	template.Spec.ContainerConcurrency = f.Deploy.Options.Resources.Limits.Concurrency
	container := f.container(image)
	for n, v := range f.Run.Volumes {
		name := fmt.Sprint("empty-dir-", n)
		template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &v.EmptyDir}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: v.Path})
	}
	template.Spec.Containers = []corev1.Container{container}
	return service
}

func (f function) container(image string) corev1.Container {
	get := func(path string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080)}}}
	}
	yes, no, options := true, false, f.Deploy.Options.Resources
	secret := regexp.MustCompile(`^{{ *secret:(\S+):(\S+) *}}$`)
	env := f.Run.Envs
	for n, v := range env {
		if m := secret.FindStringSubmatch(v.Value); m != nil {
			env[n].Value, env[n].ValueFrom = "", &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: m[1]}, Key: m[2]},
			}
		}
	}
	return corev1.Container{
		Image: image, Env: env, LivenessProbe: get(f.Deploy.HealthEndpoints.Liveness), ReadinessProbe: get(f.Deploy.HealthEndpoints.Readiness),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": options.Requests.CPU, "memory": options.Requests.Memory},
			Limits:   corev1.ResourceList{"cpu": options.Limits.CPU, "memory": options.Limits.Memory},
		},
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}
