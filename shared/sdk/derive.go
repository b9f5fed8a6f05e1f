package sdk

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// minSecret is how many bytes a secret must have at least.
const minSecret = 16

// Derive returns what only who knows the secret can tell of an instance: a flag
// or a password that nobody can guess and nobody has to store. It is 64
// lower-case hexadecimal digits, 256 bits; 32 of them are plenty for a flag.
// The same secret, identity and purpose always give the same, and others give
// something unrelated: name a purpose for each of several flags. It fails with
// a secret of less than 16 bytes.
//
// The secret belongs to the challenge: make it once, for instance with openssl
// rand -hex 32, and hand it to the scenario among the additional settings.
func Derive(secret, identity string, purpose ...string) (string, error) {
	if len(secret) < minSecret {
		return "", fmt.Errorf("derive a flag: the secret has %d bytes, and needs at least %d", len(secret), minSecret)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	for _, part := range append([]string{identity}, purpose...) {
		// With its length in front no part can pass for two.
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	return hex.EncodeToString(mac.Sum(nil)), nil
}
