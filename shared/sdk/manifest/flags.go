package manifest

import (
	"cmp"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

// makeFlags works out the flags of an instance, by name.
func (b *builder) makeFlags() {
	at := path{"secret"}
	secret, known := b.text(at, b.m.doc.Secret, ofAdditional)
	if b.m.doc.Secret != "" && known && len(secret) < minSecret {
		b.fail(at, "secret", "it has less than 16 bytes, and could be guessed", "use what openssl rand -hex 32 prints")
	}
	if !known {
		secret = strings.Repeat("0", minSecret)
	}
	for _, name := range b.m.tree.order(path{"flags"}) {
		f, at := b.m.doc.Flags[name], path{"flags", name}
		format := cmp.Or(f.Format, "%s")
		switch {
		case f.Varied != "":
			b.flags[name] = strings.Replace(format, "%s", sdk.Variate(b.identity, f.Varied, f.classes()...), 1)
		case f.Random != 0:
			if b.m.doc.Secret == "" {
				b.fail(at, "secret", "a random flag is derived from the secret, and there is none",
					"add secret: with what openssl rand -hex 32 prints")
			}
			digits, err := sdk.Derive(secret, b.identity, name)
			if err != nil { // said already
				continue
			}
			b.flags[name] = strings.Replace(format, "%s", digits[:max(0, min(f.Random, len(digits)))], 1)
		default:
			text, known := b.text(at, f.Literal, ofAdditional, ofIdentity)
			if known && text == "" {
				b.fail(at, "value", "the flag is empty", "write the flag, or how each instance gets its own, such as {random: 32}")
			}
			b.flags[name] = text
		}
	}
}

// minSecret is how many bytes a secret must have at least: see [sdk.Derive].
const minSecret = 16

// classes are the characters that a varied flag may use.
func (f flag) classes() []sdk.VariateOption {
	var options []sdk.VariateOption
	for _, c := range []struct {
		allow  *bool
		option func(bool) sdk.VariateOption
	}{
		{f.Lowercase, sdk.WithLowercase}, {f.Uppercase, sdk.WithUppercase},
		{f.Digits, sdk.WithNumeric}, {f.Special, sdk.WithSpecial},
	} {
		if c.allow != nil {
			options = append(options, c.option(*c.allow))
		}
	}
	return options
}
