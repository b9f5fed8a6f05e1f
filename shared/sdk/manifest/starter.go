package manifest

import (
	"crypto/rand"
	_ "embed" // the text
	"encoding/hex"
	"regexp"
	"strings"
)

//go:embed starter.yaml
var starter string

// Starter returns the text of a manifest to begin with, with comments that
// explain it and a secret that was never used before. It is valid and lints
// clean. Characters that a name may not have become dashes.
func Starter(name string) []byte {
	name = regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(name), "-")
	const longest = 50
	name = strings.Trim(name[:min(len(name), longest)], "-")
	if name == "" {
		name = "challenge"
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	return []byte(strings.NewReplacer("NAME", name, "SECRET", hex.EncodeToString(secret)).Replace(starter))
}
