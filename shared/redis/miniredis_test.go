package redis_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
)

// The embedded server is a newcomer's convenience: the main story works on it,
// and nothing else is promised.
func TestStoryOnMiniredis(t *testing.T) {
	t.Parallel()
	testStory(t, newEnv(t, "redis://"+miniredis.RunT(t).Addr()))
}
