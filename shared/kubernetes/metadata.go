package kubernetes

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// metadataRanges is where clouds serve the credentials of nodes, and other
// things that are for a node alone.
func metadataRanges() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00:ec2::254/128")}
}

// closeMetadata takes the addresses of metadata services out of every range
// that a NetworkPolicy opens to pods. Scenarios open the Internet as
// 0.0.0.0/0, these included, and never mean them.
func closeMetadata(policy *unstructured.Unstructured) {
	rules, _, _ := unstructured.NestedFieldNoCopy(policy.Object, "spec", "egress")
	for _, rule := range members(rules) {
		for _, peer := range members(rule["to"]) {
			block, ok := peer["ipBlock"].(map[string]any)
			if !ok {
				continue
			}
			text, _ := block["cidr"].(string)
			opened, err := netip.ParsePrefix(text)
			if err != nil {
				continue // the API server says so
			}
			except, _ := block["except"].([]any)
			for _, closed := range metadataRanges() {
				if opened.Overlaps(closed) && opened.Bits() < closed.Bits() && !covers(except, closed) {
					except = append(except, closed.String())
				}
			}
			if len(except) > 0 {
				block["except"] = except
			}
		}
	}
}

// covers tells whether one of the ranges holds all of another.
func covers(ranges []any, all netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r any) bool {
		text, _ := r.(string)
		prefix, err := netip.ParsePrefix(text)
		return err == nil && prefix.Bits() <= all.Bits() && prefix.Contains(all.Addr())
	})
}

// members are the objects of a list, if it is one.
func members(list any) []map[string]any {
	items, _ := list.([]any)
	var found []map[string]any
	for _, item := range items {
		if object, ok := item.(map[string]any); ok {
			found = append(found, object)
		}
	}
	return found
}
