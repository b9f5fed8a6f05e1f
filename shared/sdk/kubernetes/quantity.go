package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// None in the place of a quantity leaves a request or limit out that is there
// by default. Without a request Kubernetes takes the limit for one.
const None = "none"

// defaults are the requests and limits of a container that says nothing.
func defaults() (requests, limits map[string]string) {
	return map[string]string{"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
		map[string]string{"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "256Mi"}
}

// resources completes what the container says by the defaults, which give way:
// a default limit is at least what is requested, and a default request at most
// the limit.
func (c Container) resources() map[string]any {
	requests, limits := defaults()
	for name, limit := range limits {
		if asked, ok := c.Requests[name]; ok && asked != None && compare(asked, limit) > 0 {
			limits[name] = asked
		}
	}
	maps.Copy(limits, c.Limits)
	for name, request := range requests {
		if limits[name] != None && compare(request, limits[name]) > 0 {
			requests[name] = limits[name]
		}
	}
	maps.Copy(requests, c.Requests)
	none := func(_, quantity string) bool { return quantity == None }
	maps.DeleteFunc(requests, none)
	maps.DeleteFunc(limits, none)
	return map[string]any{"requests": texts(requests), "limits": texts(limits)}
}

// compare orders two quantities that are valid.
func compare(a, b string) int {
	x, _ := quantity(a)
	y, _ := quantity(b)
	return cmp.Compare(x, y)
}

// quantity reads a quantity of Kubernetes, such as 500m or 1.5Gi.
func quantity(text string) (float64, error) {
	digits := strings.TrimRight(text, "numkMGTPEi")
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.Trim(digits, "0123456789.eE") != "" {
		return 0, fmt.Errorf("%q is no quantity such as 500m or 256Mi", text)
	}
	factor, ok := map[string]float64{
		"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3,
		"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
	}[text[len(digits):]]
	if !ok {
		return 0, fmt.Errorf("%q has no unit such as m, Mi or Gi", text)
	}
	return number * factor, nil
}

// texts is a map of strings as part of an object.
func texts(of map[string]string) map[string]any {
	out := make(map[string]any, len(of))
	for key, value := range of {
		out[key] = value
	}
	return out
}
