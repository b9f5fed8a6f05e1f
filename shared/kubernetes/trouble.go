package kubernetes

import (
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// crashes is how often a container may end before it is given up. With the
// kubelet's pauses the fifth comes after two and a half minutes: what waits for
// a database has had its time.
const crashes = 5

// Graveness orders what is wrong with several pods.
const (
	mild = iota
	serious
	fatal
)

// A trouble is what keeps a pod from working.
type trouble struct {
	reason, detail string
	container      string
	grave          int
	final          bool // it will not change by itself
	crashed        bool // the log tells more
	vague          bool // events tell more
}

// troubleOf returns what is wrong with a pod, nil if nothing is.
func troubleOf(pod *corev1.Pod) *trouble {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return &trouble{reason: "no node has room for it", detail: c.Message, grave: serious}
		}
	}
	var worst *trouble
	statuses := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, s := range statuses {
		if t := containerTrouble(s); t != nil && (worst == nil || t.grave > worst.grave) {
			worst = t
		}
	}
	if worst != nil {
		return worst
	}
	if pod.Status.Phase == corev1.PodPending {
		return &trouble{reason: "a pod does not start", grave: mild, vague: true}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse && c.Reason != "PodCompleted" {
			return &trouble{reason: "a pod runs and is not ready", detail: c.Message, grave: mild, vague: true}
		}
	}
	return nil
}

func containerTrouble(s corev1.ContainerStatus) *trouble {
	t := &trouble{container: s.Name, grave: serious}
	last := s.LastTerminationState.Terminated
	if s.State.Terminated != nil {
		last = s.State.Terminated
	}
	waiting := s.State.Waiting
	switch {
	case waiting == nil && (last == nil || last.ExitCode == 0 || s.State.Running != nil):
		return nil
	case waiting == nil:
		return t.crash(s, last)
	}
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ErrImageNeverPullPolicy", "RegistryUnavailable":
		t.reason = fmt.Sprintf("the image %s of container %s can't be pulled", s.Image, s.Name)
		t.detail = waiting.Message
		hopeless := regexp.MustCompile(`not found|manifest unknown|denied|nauthorized|nvalid reference|nvalid image|couldn't parse|no basic auth`)
		t.final = waiting.Reason == "InvalidImageName" || hopeless.MatchString(waiting.Message)
	case "CreateContainerConfigError", "CreateContainerError":
		t.reason, t.detail = "container "+s.Name+" can't be made", waiting.Message
		t.final = regexp.MustCompile(`runAsNonRoot|run as root`).MatchString(waiting.Message)
	case "RunContainerError", "StartError", "CrashLoopBackOff":
		return t.crash(s, last)
	default:
		return nil // it is being made
	}
	if t.final {
		t.grave = fatal
	}
	return t
}

// crash is the trouble of a container that ended.
func (t *trouble) crash(s corev1.ContainerStatus, last *corev1.ContainerStateTerminated) *trouble {
	if last == nil {
		t.reason = "container " + s.Name + " does not start"
		if s.State.Waiting != nil {
			t.detail = s.State.Waiting.Message
		}
		return t
	}
	if last.Reason == "StartError" || last.Reason == "ContainerCannotRun" {
		t.reason, t.detail, t.final, t.grave = "container "+s.Name+" can't be started", last.Message, true, fatal
		return t
	}
	t.crashed, t.reason = true, "container "+s.Name+" ends again and again"
	if s.RestartCount == 0 {
		t.reason = "container " + s.Name + " ended"
	}
	t.detail = fmt.Sprintf("exit code %d (%s), restarted %d times", last.ExitCode, last.Reason, s.RestartCount)
	if last.Reason == "OOMKilled" {
		t.detail = "it wants more memory than its limit, " + t.detail
	}
	t.final = s.RestartCount >= crashes
	return t
}
