package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

var (
	// ErrKeyMissing says that a backup is encrypted, and no key is given.
	ErrKeyMissing = errors.New("the backup is encrypted, and no key is given")
	// ErrNotEncrypted says that a key is given for a backup that has none: it may
	// be from anybody.
	ErrNotEncrypted = errors.New("a key is given, but the backup is not encrypted")
)

// ageMagic is what an encrypted backup begins with.
const ageMagic = "age-encryption.org/"

// stanza is the kind of our keys in the header of age, and what the key of a
// file is sealed as.
const stanza = "mayfly"

// A keyring is how age comes to the key of a file: it is drawn for each, and
// sealed with ours.
type keyring struct{ *redis.Keyring }

// Wrap seals the key of a file; see [age.Recipient].
func (k keyring) Wrap(key []byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: stanza, Body: k.Seal(key, []byte(stanza))}}, nil
}

// Unwrap opens the key of a file; see [age.Identity].
func (k keyring) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type == stanza {
			return k.Open(s.Body, []byte(stanza))
		}
	}
	return nil, errors.New("it is not encrypted with a key of Mayfly's")
}

type unsealed struct{ io.Writer }

// Close leaves the writer open.
func (unsealed) Close() error { return nil }

// A sealedReader tells that what it reads is not what was encrypted.
type sealedReader struct{ io.Reader }

func (r sealedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, err
}

// sealing returns what encrypts onto a writer, if there is a key.
func sealing(to io.Writer, key *redis.Keyring) (io.WriteCloser, error) {
	if key == nil {
		return unsealed{to}, nil
	}
	sealed, err := age.Encrypt(to, keyring{key})
	if err != nil {
		return nil, fmt.Errorf("encrypt the backup: %w", err)
	}
	return sealed, nil
}

// opening returns what decrypts from a reader, if there is a key. What it reads
// is authentic; who reads to the end knows that nothing is missing.
func opening(from io.Reader, key *redis.Keyring) (io.Reader, error) {
	buffered := bufio.NewReader(from)
	begins, err := buffered.Peek(len(ageMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	switch encrypted := strings.HasPrefix(ageMagic, string(begins)); {
	case len(begins) == 0: // the decoder tells
	case encrypted && key == nil:
		return nil, ErrKeyMissing
	case encrypted:
		opened, err := age.Decrypt(buffered, keyring{key})
		if err != nil {
			return nil, fmt.Errorf("decrypt the backup: %w", err)
		}
		return sealedReader{opened}, nil
	case key != nil:
		return nil, ErrNotEncrypted
	}
	return buffered, nil
}
