package install_test

import (
	"path/filepath"
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// The folder for backups is of fields that its kinds have. Its pods reach the
// Redis of the installation, and read the Secrets that `make up` makes.
func TestBackupFolder(t *testing.T) {
	t.Parallel()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "config/backup"))
	check(t, err)
	var jobs []batchv1.CronJob
	var policies []networkingv1.NetworkPolicy
	for _, object := range built.Resources() {
		text, err := object.AsYAML()
		check(t, err)
		switch object.GetKind() {
		case "CronJob":
			jobs = append(jobs, batchv1.CronJob{})
			check(t, yaml.UnmarshalStrict(text, &jobs[len(jobs)-1]))
		case "NetworkPolicy":
			policies = append(policies, networkingv1.NetworkPolicy{})
			check(t, yaml.UnmarshalStrict(text, &policies[len(policies)-1]))
		default:
			check(t, yaml.UnmarshalStrict(text, new(corev1.PersistentVolumeClaim)))
		}
	}
	if len(jobs) != 2 || len(policies) != 1 {
		t.Fatalf("%d CronJobs and %d NetworkPolicies", len(jobs), len(policies))
	}
	from := policies[0].Spec.Ingress[0].From[0].PodSelector.MatchLabels
	secrets := []string{"redis/url", "keys/keys", "backup/key"}
	for _, job := range jobs {
		pod := job.Spec.JobTemplate.Spec.Template
		for name, value := range from {
			if pod.Labels[name] != value {
				t.Errorf("%s does not reach Redis: it has the labels %v", job.Name, pod.Labels)
			}
		}
		container := pod.Spec.Containers[0]
		if container.Args[0] != job.Name || container.Image != "mayfly" {
			t.Errorf("%s runs %s %v", job.Name, container.Image, container.Args)
		}
		for _, variable := range container.Env {
			if ref := variable.ValueFrom.SecretKeyRef; !slices.Contains(secrets, ref.Name+"/"+ref.Key) {
				t.Errorf("%s reads %s from %s/%s", job.Name, variable.Name, ref.Name, ref.Key)
			}
		}
		if suspended := job.Spec.Suspend != nil && *job.Spec.Suspend; suspended != (job.Name == "restore") {
			t.Errorf("%s runs by itself: %v", job.Name, !suspended)
		}
	}
}
