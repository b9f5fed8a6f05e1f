package sdk_test

import (
	"fmt"
	"math/rand"
	"testing"
	"unicode/utf8"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

// group is one line of the contract: lower, upper, numeric, special.
type group [4]string

func contract() []group {
	return []group{
		{"a", "A", "4", "@ªÀÁÂÃÄÅàáâãäå"}, {"b", "B", "8", "ß"}, {"c", "C", "", "(¢©Çç"}, {"d", "D", "", "Ð"},
		{"e", "E", "3", "€&£ÈÉÊËèéêë"}, {"f", "F", "", "ƒ"}, {"g", "G", "", ""}, {"h", "H", "", "#"},
		{"i", "I", "1", "!ÌÍÎÏìíîï"}, {"j", "J", "", ""}, {"k", "K", "", ""}, {"l", "L", "", ""}, {"m", "M", "", ""},
		{"n", "N", "", ""}, {"o", "O", "0", "¤°ºÒÓÔÕÖØøòóôõöð"}, {"p", "P", "", ""}, {"q", "Q", "", ""},
		{"r", "R", "", "®"}, {"s", "S", "5", "$šŠ§"}, {"t", "T", "7", "†"}, {"u", "U", "", "µÙÚÛÜùúûü"},
		{"v", "V", "", ""}, {"w", "W", "", ""}, {"x", "X", "", "×"}, {"y", "Y", "", "Ÿ¥Ýýÿ"}, {"z", "Z", "", "žŽ"},
		{"", "", "", " -_~"},
	}
}

// expected reads the contract step by step, in another way than the SDK does.
func expected(identity, base string, enabled [4]bool) string {
	for len(identity) < 8 {
		identity += "0"
	}
	var seed uint64
	for i := range 8 {
		seed = seed*256 + uint64(identity[i])
	}
	candidates := make(map[rune][]rune)
	for _, g := range contract() {
		var members []rune
		for class, chars := range g {
			if enabled[class] {
				members = append(members, []rune(chars)...)
			}
		}
		for _, m := range members {
			candidates[m] = members
		}
	}
	random := rand.New(rand.NewSource(int64(seed)))
	var out []rune
	for i := range len(base) {
		r := rune(base[i])
		if c := candidates[r]; c != nil {
			r = c[random.Int()%len(c)]
		}
		out = append(out, r)
	}
	return string(out)
}

func options(enabled [4]bool) []sdk.VariateOption {
	return []sdk.VariateOption{
		sdk.WithLowercase(enabled[0]), sdk.WithUppercase(enabled[1]), sdk.WithNumeric(enabled[2]), sdk.WithSpecial(enabled[3]),
	}
}

func TestVariateFollowsContract(t *testing.T) {
	t.Parallel()
	var all string
	for i := range 256 {
		all += string([]byte{byte(i)})
	}
	for _, identity := range []string{"", "a1b2", "0123456789abcdef", "fedcba9876543210", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"} {
		for _, base := range []string{"", "the quick brown fox jumps over THE LAZY DOG 0123456789", all, "é-ß_€~"} {
			for mask := range 16 {
				enabled := [4]bool{mask&1 != 0, mask&2 != 0, mask&4 != 0, mask&8 != 0}
				got, want := sdk.Variate(identity, base, options(enabled)...), expected(identity, base, enabled)
				if got != want {
					t.Fatalf("Variate(%q, %q, %v) = %q, want %q", identity, base, enabled, got, want)
				}
			}
		}
	}
}

func TestVariateVectors(t *testing.T) {
	t.Parallel()
	special := []sdk.VariateOption{sdk.WithSpecial(true)}
	for _, tc := range []struct {
		identity, base string
		opts           []sdk.VariateOption
		want           string
	}{
		{"0123456789abcdef", "one day is a long life", nil, "oN3 d4Y iS A LoNG Life"},
		{"01234567", "one day is a long life", nil, "oN3 d4Y iS A LoNG Life"},
		{"fedcba9876543210", "one day is a long life", nil, "ONe d4Y is A l0Ng lIFe"},
		{"a1b2", "this_is_a_flag", nil, "7His_i5_4_fL4G"},
		{"0123456789abcdef", "one day is a long life", special, "óNÉ Ðã¥_î§_ª-LònG-LiFè"},
		{"0123456789abcdef", "!!!", nil, "!!!"},
		{"0123456789abcdef", "a\x00269{}", []sdk.VariateOption{sdk.WithUppercase(false), sdk.WithNumeric(false)}, "a\x00269{}"},
	} {
		if got := sdk.Variate(tc.identity, tc.base, tc.opts...); got != tc.want {
			t.Errorf("Variate(%q, %q) = %q, want %q", tc.identity, tc.base, got, tc.want)
		}
	}
	if sdk.Variate("0123456789abcdef", "!!!", special...) == "!!!" {
		t.Error("specials are allowed, and !!! stays")
	}
}

func FuzzVariate(f *testing.F) {
	f.Add("0123456789abcdef", "one day is a long life", true, true, true, false)
	f.Add("a1b2", "\x00\xff€", false, false, false, true)
	f.Fuzz(func(t *testing.T, identity, base string, lower, upper, numeric, special bool) {
		enabled := [4]bool{lower, upper, numeric, special}
		got := sdk.Variate(identity, base, options(enabled)...)
		if want := expected(identity, base, enabled); got != want {
			t.Errorf("Variate = %q, want %q", got, want)
		}
		if utf8.RuneCountInString(got) != len(base) {
			t.Errorf("%d characters of %d bytes", utf8.RuneCountInString(got), len(base))
		}
	})
}

func ExampleVariate() {
	fmt.Println("MAYFLY{" + sdk.Variate("0123456789abcdef", "one_day_is_a_long_life") + "}")
	// Output: MAYFLY{oN3_d4Y_iS_A_LoNG_Life}
}
