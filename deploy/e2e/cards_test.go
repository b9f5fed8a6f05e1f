//go:build cluster

package e2e_test

import (
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// objectsOfCards is how many ConfigMaps one instance is: its cards, and what
// owns them.
const objectsOfCards = 3

// cards makes a challenge whose instances cost next to nothing, with what the
// request says besides. It may say that the scenario is one of pushCards.
func (i *installation) cards(t testing.TB, request *challengev1.CreateChallengeRequest) string {
	t.Helper()
	if request.Scenario == "" {
		request.Scenario = pushCards(t)
	}
	request.Id = "cards-" + strings.ToLower(rand.Text()[:8])
	challenges, _ := i.clients(t, "gateway")
	_, err := challenges.CreateChallenge(t.Context(), request)
	check(t, err)
	return request.Id
}

// pushCards builds their scenario and pushes it.
func pushCards(t testing.TB) string {
	t.Helper()
	return push(t, "cards", map[string][]byte{
		"Pulumi.yaml": []byte("name: cards\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
		"main":        clustertest.Program(t, filepath.Join("testdata", "cards")),
	})
}
