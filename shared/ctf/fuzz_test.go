package ctf_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func FuzzIDs(f *testing.F) {
	for _, id := range []string{"", "team-1", "a/b", "..", "é☃", "a\x00", "a\nb", "\xff", strings.Repeat("x", ctf.MaxIDLength+1)} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		challenge, source := ctf.ChallengeID(id).Validate(), ctf.SourceID(id).Validate()
		if (challenge == nil) != (source == nil) {
			t.Errorf("%q: %v as challenge, %v as source", id, challenge, source)
		}
		bad := id == "" || len(id) > ctf.MaxIDLength || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl)
		if bad && challenge == nil {
			t.Errorf("%q is taken", id)
		}
		if challenge != nil && ctf.ReasonOf(challenge) != ctf.ReasonInvalidArgument {
			t.Errorf("%q: %v", id, challenge)
		}
	})
}
