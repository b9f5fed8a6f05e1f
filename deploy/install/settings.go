package install

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// checkSettings refuses what can't be set.
func (o Options) checkSettings() error {
	var wrong []error
	for _, setting := range slices.Sorted(maps.Keys(o.Settings)) {
		if why := refused(setting, o.Settings[setting]); why != "" {
			wrong = append(wrong, fmt.Errorf("setting %s: %s", setting, why))
		}
	}
	if o.RegistryPassword != "" && o.Settings["OCI_USERNAME"] == "" {
		wrong = append(wrong, errors.New("registry password: it is not said whose it is: give the settings OCI_USERNAME and OCI_REGISTRY"))
	}
	return errors.Join(wrong...)
}

// refused tells why a setting can't be: it is no environment variable, must not
// be read by whoever may look at a ConfigMap, or would contradict something else.
func refused(setting, value string) string {
	switch {
	case !regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`).MatchString(setting):
		return "settings are named in capitals, as LOG_LEVEL"
	case slices.Contains([]string{"MAYFLY_KEYS", "MAYFLY_TOKEN", "OCI_PASSWORD", "REDIS_URL"}, setting):
		return "it is a secret, and settings are none"
	case !utf8.ValidString(value), strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return "it must be one line of text"
	case setting == "WORKERS":
		if n, err := strconv.Atoi(value); err != nil || n < 1 {
			return fmt.Sprintf("it is %q and must be at least 1: a pod has memory for so many operations", value)
		}
	case setting == "REDIS_WAIT":
		if _, err := strconv.ParseUint(value, 10, 8); value != "" && err != nil {
			return fmt.Sprintf("it is %q and must be a number up to 255, or empty", value)
		}
	case setting == "DEPLOYMENTS", setting == "CREATE_QUEUE":
		if n, err := strconv.Atoi(value); value != "" && (err != nil || n < 0) {
			return fmt.Sprintf("it is %q and must be a number, or empty", value)
		}
	case setting == "CREATE_WAIT":
		if d, err := time.ParseDuration(value); value != "" && (err != nil || d < 0) {
			return fmt.Sprintf("it is %q and must be a time, as 1m, or empty", value)
		}
	}
	return fixed(setting)
}

// checkKnown refuses what no function reads, which the configuration's list of
// settings does not have: else a mistake in writing would go unnoticed.
func (o Options) checkKnown(files filesys.FileSystem) error {
	const list = "base/settings.env"
	text, err := files.ReadFile("/config/" + list)
	if err != nil {
		return fmt.Errorf("read %s/%s: %w", o.Config, list, err)
	}
	var wrong []error
	for _, setting := range slices.Sorted(maps.Keys(o.Settings)) {
		known := slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool { return strings.HasPrefix(line, setting+"=") })
		if !known && refused(setting, o.Settings[setting]) == "" {
			wrong = append(wrong, fmt.Errorf("setting %s: there is none of that name; %s lists them", setting, list))
		}
	}
	return errors.Join(wrong...)
}

// fixed tells why a setting can't be set by itself: it says what something else
// in the configuration says too. It is empty for the others.
func fixed(setting string) string {
	switch setting {
	case "RECONCILE":
		return "it says how often the PingSource reconcile comes: change both, in an overlay"
	case "TICK_PINGSOURCE":
		return "it names the PingSource that the Role tick allows to patch: change all three, in an overlay"
	case "ADDRESS", "PORT":
		return "Knative reaches the functions at their port 8080: it stays"
	case "K_SINK":
		return "it names the Broker, which follows the namespace"
	case "GATEWAY_TARGET", "KUBERNETES_TARGET_NAMESPACE":
		return "it follows the namespace"
	case "KUBERNETES":
		return "on a cluster, instances are on a cluster"
	case "KUBERNETES_POLICY", "CACHE":
		return "it names where a volume of the functions is: change both, in an overlay"
	case "GOMEMLIMIT":
		return "it goes with the memory of each function: change both, in an overlay"
	}
	return ""
}
