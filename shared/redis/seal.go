package redis

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// maxUnpacked bounds what one compressed value may grow to.
const maxUnpacked = 256 << 20

const keyBytes = 32

// ErrKeyUnknown marks the error of what is sealed with a key that is not there.
var ErrKeyUnknown = errors.New("which is not among those given")

// A Keyring holds the keys that encrypt what Redis must not know. It is safe
// for concurrent use.
type Keyring struct {
	first string
	keys  map[string]cipher.AEAD
}

// ParseKeys reads "id:key,id2:key2", where each key is 32 bytes in base64. The
// first encrypts and all decrypt, so that a new key is put in front and the old
// one kept until nothing that it sealed is left. At least one is required.
func ParseKeys(text string) (*Keyring, error) {
	k := &Keyring{keys: map[string]cipher.AEAD{}}
	name := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	for entry := range strings.SplitSeq(text, ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(entry), ":")
		// The messages never repeat the text: it may be a key without its id.
		if !ok || !name.MatchString(id) {
			return nil, errors.New("encryption keys must be given as id:key, ids in letters, digits, - and _")
		}
		if _, twice := k.keys[id]; twice {
			return nil, fmt.Errorf("encryption key %s is given twice", id)
		}
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(key) != keyBytes {
			return nil, fmt.Errorf("encryption key %s must be %d bytes in base64", id, keyBytes)
		}
		if k.keys[id], err = newAEAD(key); err != nil {
			return nil, fmt.Errorf("encryption key %s: %w", id, err)
		}
		if k.first == "" {
			k.first = id
		}
	}
	return k, nil
}

// NewKey draws a key and returns it with a random id, as ParseKeys reads it.
func NewKey() string {
	var id [4]byte
	var key [keyBytes]byte
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	_, _ = rand.Read(key[:])
	return "k" + hex.EncodeToString(id[:]) + ":" + base64.StdEncoding.EncodeToString(key[:])
}

// NoKeys returns a keyring for who neither reads nor writes what is sealed: it
// opens nothing, and to seal with it is a mistake.
func NoKeys() *Keyring { return &Keyring{} }

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// place is where a sealed value belongs. It is authenticated with it, so that a
// value can't be moved to another instance or field.
func place(key ctf.InstanceKey, field string) []byte {
	return fmt.Appendf(nil, "%q/%q/%s/%s", key.Challenge.Tenant, key.Challenge.ID, key.Identity, field)
}

// Seal returns the length of the key's id, the id, a nonce and the ciphertext.
// Whoever opens it has to name the same place.
func (k *Keyring) Seal(plain, place []byte) []byte {
	aead := k.keys[k.first]
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails, by its documentation
	out := append([]byte{byte(len(k.first))}, k.first...)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, plain, place)
}

// Open returns what was sealed at a place, or an error that tells which key is
// missing or that it is not what was sealed there.
func (k *Keyring) Open(sealed, place []byte) ([]byte, error) {
	if len(sealed) == 0 || len(sealed) < 1+int(sealed[0]) {
		return nil, errors.New("the sealed value is cut off")
	}
	n := int(sealed[0]) // a byte would overflow
	id, rest := string(sealed[1:1+n]), sealed[1+n:]
	aead, ok := k.keys[id]
	if !ok {
		return nil, fmt.Errorf("the value is sealed with the encryption key %q, %w", id, ErrKeyUnknown)
	}
	if len(rest) < aead.NonceSize() {
		return nil, errors.New("the sealed value is cut off")
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], place)
	if err != nil {
		return nil, fmt.Errorf("open a value sealed with the encryption key %s: %w", id, err)
	}
	return plain, nil
}

// pack compresses and seals; nothing stays nothing.
func (s *Store) pack(plain []byte, key ctf.InstanceKey, field string) string {
	if plain == nil {
		return ""
	}
	return string(s.keys.Seal(s.encoder.EncodeAll(plain, nil), place(key, field)))
}

func (s *Store) unpack(packed string, key ctf.InstanceKey, field string) ([]byte, error) {
	if packed == "" {
		return nil, nil
	}
	compressed, err := s.keys.Open([]byte(packed), place(key, field))
	if err != nil {
		return nil, fmt.Errorf("%w: the %s of instance %s: %w", ctf.ErrUnreadable, field, key.Identity, err)
	}
	plain, err := s.decoder.DecodeAll(compressed, []byte{})
	if err != nil {
		return nil, fmt.Errorf("%w: the %s of instance %s: %w", ctf.ErrUnreadable, field, key.Identity, err)
	}
	return plain, nil
}
