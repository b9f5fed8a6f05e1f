package sdk

import (
	"encoding/binary"
	"math/rand"
	"strings"
)

// lookalikes has a line for each group of characters that may stand for one
// another: the lower-case letter, the upper-case one, the digit, the specials.
// What it says and in which order is a contract: change it, and flags that are
// out already are no longer those that are checked.
const lookalikes = `aA4@ªÀÁÂÃÄÅàáâãäå
bB8ß
cC(¢©Çç
dDÐ
eE3€&£ÈÉÊËèéêë
fFƒ
gG
hH#
iI1!ÌÍÎÏìíîï
jJ
kK
lL
mM
nN
oO0¤°ºÒÓÔÕÖØøòóôõöð
pP
qQ
rR®
sS5$šŠ§
tT7†
uUµÙÚÛÜùúûü
vV
wW
xX×
yYŸ¥Ýýÿ
zZžŽ
 -_~`

// seedBytes is how much of an identity counts.
const seedBytes = 8

// classes are the kinds of characters that a variation may use.
type classes struct {
	lower, upper, numeric, special bool
}

// A VariateOption chooses among the characters that [Variate] may use.
type VariateOption func(*classes)

// WithLowercase allows a to z, or not. They are allowed by default.
func WithLowercase(allow bool) VariateOption { return func(c *classes) { c.lower = allow } }

// WithUppercase allows A to Z, or not. They are allowed by default.
func WithUppercase(allow bool) VariateOption { return func(c *classes) { c.upper = allow } }

// WithNumeric allows digits, or not. They are allowed by default.
func WithNumeric(allow bool) VariateOption { return func(c *classes) { c.numeric = allow } }

// WithSpecial allows all other characters, or not. They are not allowed by
// default.
func WithSpecial(allow bool) VariateOption { return func(c *classes) { c.special = allow } }

// Variate replaces characters of base by some that look alike, as the identity
// has it: the same identity always gives the same text. Use it for flags that
// tell who solved a challenge and who copied; put a prefix such as FLAG{ around
// the result, not into base, as its letters would vary too. Only the first 8
// bytes of the identity count. A base that is not ASCII comes out garbled.
func Variate(identity, base string, opts ...VariateOption) string {
	allowed := classes{lower: true, upper: true, numeric: true}
	for _, o := range opts {
		o(&allowed)
	}
	random := rand.New(rand.NewSource(seed(identity)))
	var out strings.Builder
	for _, b := range []byte(base) {
		r := rune(b) // byte by byte, hence Latin-1
		if candidates := allowed.candidates(r); len(candidates) > 0 {
			r = candidates[random.Int()%len(candidates)]
		}
		out.WriteRune(r)
	}
	return out.String()
}

func seed(identity string) int64 {
	padded := identity + strings.Repeat("0", seedBytes)
	return int64(binary.BigEndian.Uint64([]byte(padded[:seedBytes])))
}

// candidates are what may stand for r. There are none for a character that has
// no group or is not allowed itself.
func (c classes) candidates(r rune) []rune {
	if !c.allow(r) {
		return nil
	}
	for group := range strings.Lines(lookalikes) {
		group = strings.TrimSuffix(group, "\n")
		if !strings.ContainsRune(group, r) {
			continue
		}
		var out []rune
		for _, member := range group {
			if c.allow(member) {
				out = append(out, member)
			}
		}
		return out
	}
	return nil
}

func (c classes) allow(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z':
		return c.lower
	case 'A' <= r && r <= 'Z':
		return c.upper
	case '0' <= r && r <= '9':
		return c.numeric
	}
	return c.special
}
