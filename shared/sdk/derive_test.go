package sdk_test

import (
	"fmt"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

const secret = "0123456789abcdef0123456789abcdef"

// What it returns is a contract: change it, and flags that are out already are
// no longer those that are checked.
func TestDeriveVectors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		identity string
		purpose  []string
		want     string
	}{
		{"a0b1c2d3", nil, "c982f47eb6bea34e8a8c73726cdea2c2deb80b70c2ead32a4d4b4ae038509bcf"},
		{"a0b1c2d3", []string{"root"}, "28609d49a870418eec1b25ced69518c3777c642fd67139c71d4e2779e0f56a9e"},
		{"", []string{"user", "1"}, "5312ce5d31db931301e37934cc05f2a74a3f8e4206b960f911c7a0e25594c2ab"},
	} {
		got, err := sdk.Derive(secret, tc.identity, tc.purpose...)
		if err != nil || got != tc.want {
			t.Errorf("Derive(%q, %q) = %q, %v, want %q", tc.identity, tc.purpose, got, err, tc.want)
		}
	}
}

// Whatever differs, the result does: also where one part ends and the next
// begins.
func TestDeriveDiffers(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, parts := range [][]string{
		{secret, "ab"}, {secret, "a", "b"}, {secret, "", "ab"}, {secret, "ab", ""}, {secret, "a"}, {secret + "0", "ab"}, {secret, "ab", "", ""},
	} {
		got, err := sdk.Derive(parts[0], parts[1], parts[2:]...)
		if err != nil || len(got) != 64 {
			t.Fatalf("Derive(%q) = %q, %v", parts, got, err)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %s give the same", parts, other)
		}
		seen[got] = fmt.Sprintf("%q", parts)
	}
}

func TestDeriveRefusesShortSecrets(t *testing.T) {
	t.Parallel()
	for _, short := range []string{"", "fifteen-letters"} {
		if got, err := sdk.Derive(short, "a0b1c2d3"); err == nil || got != "" {
			t.Errorf("Derive with the secret %q = %q, %v", short, got, err)
		}
	}
}

func ExampleDerive() {
	flag, err := sdk.Derive("0123456789abcdef0123456789abcdef", "a0b1c2d3")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("MAYFLY{" + flag[:32] + "}")
	// Output: MAYFLY{c982f47eb6bea34e8a8c73726cdea2c2}
}
