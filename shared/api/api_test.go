package api_test

import (
	"encoding/json"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/api"
)

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	var doc struct {
		Info  struct{ Title, Version string }
		Paths map[string]map[string]struct {
			OperationID string   `json:"operationId"`
			Tags        []string `json:"tags"`
		}
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != "v1.0.0" {
		t.Errorf("version is %q", doc.Info.Version)
	}
	tags := map[string]int{}
	for _, methods := range doc.Paths {
		for _, operation := range methods {
			for _, tag := range operation.Tags {
				tags[tag]++
			}
		}
	}
	if tags["ChallengeStore"] != 5 || tags["InstanceManager"] != 5 || len(tags) != 2 {
		t.Errorf("operations by tag: %v", tags)
	}
}
