package install_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

func functions(t *testing.T, o install.Options) map[string]servingv1.Service {
	t.Helper()
	found := map[string]servingv1.Service{}
	for _, object := range render(t, o) {
		if _, ok := typed(object).(*servingv1.Service); !ok {
			continue
		}
		var function servingv1.Service
		text, err := yaml.Marshal(object)
		check(t, err)
		check(t, yaml.Unmarshal(text, &function))
		found[function.Name] = function
	}
	return found
}

// What one function has, all have, and the images are those that were given.
func TestFunctions(t *testing.T) {
	t.Parallel()
	light := []string{"retrieve-challenge", "query-challenge", "retrieve-instance", "query-instance", "renew-instance", "gateway"}
	o := options("production")
	o.Settings = map[string]string{"LOG_LEVEL": "debug"}
	all := functions(t, o)
	if len(all) != 14 {
		t.Errorf("there are %d functions", len(all))
	}
	for name, function := range all {
		spec := function.Spec.Template.Spec
		container := spec.Containers[0]
		weight, image := "engine", o.Images["engine"]
		if slices.Contains(light, name) {
			weight, image = "api", o.Images["api"]
		}
		if spec.ServiceAccountName != weight || container.Image != image {
			t.Errorf("%s runs %s as %s", name, container.Image, spec.ServiceAccountName)
		}
		if d := cmp.Diff([]string{name}, container.Args); d != "" {
			t.Errorf("%s: arguments: %s", name, d)
		}
		if function.Labels["networking.knative.dev/visibility"] != "cluster-local" {
			t.Errorf("%s is public", name)
		}
		if to := function.Spec.Traffic; len(to) != 1 || !*to[0].LatestRevision || *to[0].Percent != 100 {
			// Else a split that somebody made would outlive the next installation.
			t.Errorf("%s: calls go to %v", name, to)
		}
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Errorf("%s gets a variable for each service of its namespace", name)
		}
		if len(container.Resources.Requests) != 2 || len(container.Resources.Limits) != 2 || container.Ports[0].Name != "h2c" {
			t.Errorf("%s: %+v, %+v", name, container.Resources, container.Ports)
		}
		if settings := container.EnvFrom[0].ConfigMapRef.Name; !strings.HasPrefix(settings, "settings-") {
			t.Errorf("%s reads %s, which does not change with what it holds", name, settings)
		}
		checkScale(t, function)
		checkTimes(t, function, weight)
		checkConfined(t, container)
		checkVolumes(t, function, weight)
	}
}

// checkScale looks whether nothing of how a function scales is left to what the
// cluster does by default.
func checkScale(t *testing.T, function servingv1.Service) {
	t.Helper()
	annotations := maps.Clone(function.Spec.Template.Annotations)
	if most, err := strconv.Atoi(annotations[autoscaling.MaxScaleAnnotationKey]); err != nil || most < 1 {
		t.Errorf("%s: at most %d pods: %v", function.Name, most, err)
	}
	retention := "0s"
	if function.Name == "gateway" {
		retention = "10m" // it is what waits for all others
	}
	delete(annotations, autoscaling.MaxScaleAnnotationKey)
	if d := cmp.Diff(map[string]string{
		autoscaling.ClassAnnotationKey:               autoscaling.KPA,
		autoscaling.MetricAnnotationKey:              autoscaling.Concurrency,
		autoscaling.TargetUtilizationPercentageKey:   "80",
		autoscaling.MinScaleAnnotationKey:            "0",
		autoscaling.InitialScaleAnnotationKey:        "1",
		autoscaling.WindowAnnotationKey:              "60s",
		autoscaling.ScaleDownDelayAnnotationKey:      "0s",
		autoscaling.ScaleToZeroPodRetentionPeriodKey: retention,
		autoscaling.TargetBurstCapacityKey:           "200",
		serving.ProgressDeadlineAnnotationKey:        "300s",
	}, annotations); d != "" {
		t.Errorf("%s: %s", function.Name, d)
	}
	concurrency := int64(8)
	switch weight := function.Spec.Template.Spec.ServiceAccountName; {
	case function.Name == "gateway":
		concurrency = 500
	case weight == "api":
		concurrency = 50
	}
	if got := function.Spec.Template.Spec.ContainerConcurrency; got == nil || *got != concurrency {
		t.Errorf("%s: %v calls at once, want %d", function.Name, got, concurrency)
	}
}

// checkTimes looks how long a call may take: as long as the pod's grace, of
// which silence is a part, since a create says nothing until it is done.
func checkTimes(t *testing.T, function servingv1.Service, weight string) {
	t.Helper()
	want := int64(60)
	switch {
	case weight == "engine", function.Name == "gateway":
		want = 600
	case strings.HasPrefix(function.Name, "query-"):
		want = 300 // an answer is a stream
	}
	spec := function.Spec.Template.Spec
	for what, got := range map[string]*int64{
		"in all": spec.TimeoutSeconds, "until it begins to answer": spec.ResponseStartTimeoutSeconds, "of silence": spec.IdleTimeoutSeconds,
	} {
		if got == nil || *got != want {
			t.Errorf("%s: %v seconds %s, want %d", function.Name, got, what, want)
		}
	}
}

func checkConfined(t *testing.T, container corev1.Container) {
	t.Helper()
	name := container.Args[0]
	s := container.SecurityContext
	if s == nil || !*s.RunAsNonRoot || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation ||
		s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: security context: %+v", name, s)
		return
	}
	if d := cmp.Diff(&corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, s.Capabilities); d != "" {
		t.Errorf("%s: capabilities: %s", name, d)
	}
	port := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}
	if d := cmp.Diff(&corev1.Probe{
		ProbeHandler: port, PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 10,
	}, container.ReadinessProbe); d != "" {
		t.Errorf("%s: readiness: %s", name, d)
	}
	if d := cmp.Diff(&corev1.Probe{
		ProbeHandler: port, InitialDelaySeconds: 10, PeriodSeconds: 20, TimeoutSeconds: 5, FailureThreshold: 3,
	}, container.LivenessProbe); d != "" {
		t.Errorf("%s: liveness: %s", name, d)
	}
}

// checkVolumes looks for the places that can be written to: the root can't.
func checkVolumes(t *testing.T, function servingv1.Service, weight string) {
	t.Helper()
	spec := function.Spec.Template.Spec
	sized := map[string]bool{} // by their names
	for _, v := range spec.Volumes {
		if v.EmptyDir == nil {
			continue
		}
		if sized[v.Name] = v.EmptyDir.SizeLimit != nil; !sized[v.Name] {
			t.Errorf("%s: volume %s has no limit", function.Name, v.Name)
		}
	}
	var writable []string
	for _, mount := range spec.Containers[0].VolumeMounts {
		if sized[mount.Name] {
			writable = append(writable, mount.MountPath)
		}
	}
	slices.Sort(writable)
	want := []string{"/tmp"}
	if weight == "engine" {
		want = []string{"/cache", "/tmp"}
	}
	if d := cmp.Diff(want, writable); d != "" {
		t.Errorf("%s can write to: %s", function.Name, d)
	}
}

// The light verbs and the gateway call no API server, and so have nothing to
// show it.
func TestAccounts(t *testing.T) {
	t.Parallel()
	tokens := map[string]bool{}
	for _, object := range render(t, options("production")) {
		account, ok := typed(object).(*corev1.ServiceAccount)
		if !ok {
			continue
		}
		check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, account))
		if account.AutomountServiceAccountToken == nil {
			t.Errorf("%s: whether pods get a token is not said", account.Name)
			continue
		}
		tokens[account.Name] = *account.AutomountServiceAccountToken
	}
	if d := cmp.Diff(map[string]bool{"api": false, "engine": true, "redis": false}, tokens); d != "" {
		t.Error(d)
	}
}
