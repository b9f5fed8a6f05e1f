package redis

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func ring(t testing.TB) *Keyring {
	t.Helper()
	k, err := ParseKeys(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	good := NewKey()
	id, key, _ := strings.Cut(good, ":")
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"one":           {good, true},
		"two":           {good + ", " + NewKey(), true},
		"empty":         {"", false},
		"no id":         {key, false},
		"empty id":      {":" + key, false},
		"same id twice": {good + "," + good, false},
		"short key":     {id + ":AAAA", false},
		"not base64":    {id + ":" + strings.Repeat("!", 44), false},
		"trailing":      {good + ",", false},
	} {
		if _, err := ParseKeys(test.text); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		} else if err != nil && len(test.text) > 20 && strings.Contains(err.Error(), key) {
			t.Errorf("%s: the message gives the key away: %v", name, err)
		}
	}
}

func TestSealedValueStaysInItsPlace(t *testing.T) {
	t.Parallel()
	k := ring(t)
	at := func(tenant ctf.Tenant, id ctf.ChallengeID, identity ctf.Identity, field string) []byte {
		return place(ctf.InstanceKey{Challenge: ctf.ChallengeKey{Tenant: tenant, ID: id}, Identity: identity}, field)
	}
	sealed := k.Seal([]byte("flag"), at("t", "c", "i", "info"))
	if plain, err := k.Open(sealed, at("t", "c", "i", "info")); err != nil || string(plain) != "flag" {
		t.Fatal(plain, err)
	}
	for _, elsewhere := range [][]byte{
		at("u", "c", "i", "info"), at("t", "d", "i", "info"), at("t", "c", "j", "info"), at("t", "c", "i", "journal"), at(`t"/"c`, "", "i", "info"),
	} {
		if _, err := k.Open(sealed, elsewhere); err == nil {
			t.Errorf("opened at %s", elsewhere)
		}
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := k.Open(sealed, at("t", "c", "i", "info")); err == nil {
		t.Error("opened after a bit was changed")
	}
}

func TestConnect(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"redis://localhost":                            "client",
		"redis://user:p@ss,w@localhost:6379/2":         "client",
		"rediss://localhost:6379?pool_size=3":          "client",
		"unix:///run/redis.sock?db=1":                  "client",
		"redis://a:1,b:2,c:3":                          "cluster",
		"redis+cluster://a:1":                          "cluster",
		"rediss+cluster://user:pw@a:1,b:2?pool_size=3": "cluster",
		"redis://a:1?addr=b:2":                         "cluster",
		"redis://a:1,b:2/1?master_name=m":              "sentinel",
		"redis+sentinel://a:1,b:2?master_name=m":       "sentinel",
		"redis+sentinel://a:1":                         "",
		"redis+what://a:1":                             "",
		"http://localhost":                             "",
		"localhost:6379":                               "",
		"":                                             "",
	} {
		client, err := connect(address, 0)
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil {
			continue
		}
		if got := kindOf(client); got != want {
			t.Errorf("%s is a %s, want %s", address, got, want)
		}
		_ = client.Close()
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("a:b,c:d")
	f.Add(NewKey() + "," + NewKey())
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKeys(text)
		if err != nil {
			return
		}
		plain, err := k.Open(k.Seal([]byte("x"), nil), nil)
		if err != nil || string(plain) != "x" {
			t.Fatal(plain, err)
		}
	})
}

func FuzzConnect(f *testing.F) {
	for _, address := range []string{
		"redis://a:1", "redis://u:p@a:1,b:2/0?x=y", "redis+cluster://a", "redis+sentinel://a?master_name=m", "unix:///x", "://", "redis://@,/?,",
		"redis://:secret/word@a:1", "redis+cluster://:secret%zzword@a:1", "redis+sentinel://:123456/789@a:1?master_name=m", "redis://:sec#ret-word@a",
	} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		client, err := connect(address, 0)
		if err != nil {
			wantDiscreet(t, err, address)
			return
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}

// masked has other letters in each place, so that what is wrong with it stays wrong.
func masked(password string) string {
	return strings.Map(func(r rune) rune {
		for _, letters := range []string{"abcdef", "ghijklmnopqrstuvwxyz", "ABCDEF", "GHIJKLMNOPQRSTUVWXYZ"} { // hexadecimal or not
			if n := strings.IndexRune(letters, r); n >= 0 {
				return rune(letters[(n+1)%len(letters)])
			}
		}
		return r
	}, password)
}

// wantDiscreet fails if an error tells a part of the password that is long
// enough to be one, and nowhere else in the address or in what is said of another
// password, too.
func wantDiscreet(t *testing.T, err error, address string) {
	t.Helper()
	const part = 6
	_, rest, _ := strings.Cut(address, "://")
	user := rest[:max(0, strings.LastIndex(rest, "@"))]
	_, password, _ := strings.Cut(user, ":")
	said := ""
	if _, err := connect(strings.Replace(address, password, masked(password), 1), 0); err != nil {
		said = err.Error()
	}
	for n := 0; n+part <= len(password); n++ {
		if piece := password[n : n+part]; strings.Count(address, piece) == 1 && strings.Contains(err.Error(), piece) && !strings.Contains(said, piece) {
			t.Errorf("the error of %q tells %q: %v", address, piece, err)
		}
	}
}

func FuzzOpenSealed(f *testing.F) {
	k := knownRing(f)
	f.Add(k.Seal([]byte("x"), nil))
	f.Add([]byte{255, 1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := k.Open(sealed, nil); err == nil && !bytes.Equal(plain, []byte("x")) {
			t.Fatalf("a forged value opened as %q", plain)
		}
	})
}

// FuzzDecodeRecords reads anything as a record. It can't be read, and is said to
// be so, or each field is what its text says by the standard library.
func FuzzDecodeRecords(f *testing.F) {
	k := knownRing(f)
	key := ctf.InstanceKey{Challenge: ctf.ChallengeKey{Tenant: "t", ID: "c"}, Identity: "i"}
	f.Add("1", "ready", "1.000000000", "3", `{"a":"b"}`, "x")
	f.Add("2", "", "-1.5", "-", "[]", "")
	f.Add("1", "failed", "9223372036854775807.000000000", "7", "", "")
	f.Add("1", "updating", "+1.000000000", "7", "", "")
	f.Add("1", "deleting", "1893553445.000000006", "i/12", "null", `{"connection_info":"nc host 1","flags":["FLAG{é}"]}`)
	f.Add("", "pending", "", "", `{"a":"b","a":"\ud800"}`, `{"flags":{}}`)
	f.Fuzz(func(t *testing.T, schema, state, date, number, additional, info string) {
		record := fields{"schema": schema, "state": state, "ends_at": date, "since": date, "timeout": date, "min": number,
			"generation": number, "additional": additional}
		var settings map[string]string
		wantSettings := additional == "" || json.Unmarshal([]byte(additional), &settings) == nil
		wantNumber, isNumber := whole(number)
		version, isVersion := whole(schema)

		c, err := decodeChallenge(record)
		readable := isVersion && version <= 1 && isNumber && wantSettings
		wantReadable(t, err, readable, isVersion && version > 1)
		if err == nil && (formatOptionalInstant(c.Until) != date || formatOptionalSpan(c.Timeout) != date ||
			c.Generation != wantNumber || c.Pool.Min != wantNumber || !reflect.DeepEqual(c.Additional, settings)) {
			t.Errorf("%v is %+v", record, c)
		}

		states := []ctf.State{ctf.Pending, ctf.Ready, ctf.Updating, ctf.Deleting, ctf.Failed}
		readable = readable && slices.Contains(states, ctf.State(state))
		i, err := decodeInstance(k, key, record)
		wantReadable(t, err, readable, isVersion && version > 1)
		if err == nil && (string(i.State) != state || i.Key != key || formatOptionalInstant(i.Until) != date ||
			!i.Since.Equal(time.Time{}) && formatOptionalInstant(&i.Since) != date ||
			i.Generation != wantNumber || !reflect.DeepEqual(i.Additional, settings) || i.Flags != nil || i.ConnectionInfo != "") {
			t.Errorf("%v is %+v", record, i)
		}
		plain := err == nil
		if record["info"] = info; info != "" {
			if i, err := decodeInstance(k, key, record); err == nil {
				t.Errorf("nobody sealed %q, and it tells %+v", info, i)
			}
		}
		var told struct {
			Connection string   `json:"connection_info"`
			Flags      []string `json:"flags"`
		}
		record["info"] = string(k.Seal([]byte(info), place(key, "info")))
		i, err = decodeInstance(k, key, record)
		if tells := info == "" || json.Unmarshal([]byte(info), &told) == nil; (err == nil) != (plain && tells) {
			t.Errorf("sealed, %q is %v", info, err)
		}
		if err == nil && (i.ConnectionInfo != told.Connection || !slices.Equal(i.Flags, told.Flags)) {
			t.Errorf("sealed, %q tells %+v", info, i)
		}

		e, err := decodeEvent(key.Challenge, map[string]any{"id": number, "at": date, "identity": state})
		_, after, _ := strings.Cut(number, "/")
		revision, ok := whole(after)
		if err == nil && (!ok || after == "" || e.Revision != revision || e.ID != number || string(e.Identity) != state) {
			t.Errorf("%q is %+v", number, e)
		}
	})
}

// whole is the number that a text is, if it is one; no text is 0.
func whole(text string) (int64, bool) {
	if text == "" {
		return 0, true
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || !n.IsInt64() {
		return 0, false
	}
	return n.Int64(), true
}

// wantReadable fails unless what can't be read is said to be so, and to be newer
// if it is; a date may be in the way of what is else readable.
func wantReadable(t *testing.T, err error, readable, newer bool) {
	t.Helper()
	switch {
	case err == nil && !readable:
		t.Error("it is read")
	case err != nil && !errors.Is(err, ctf.ErrUnreadable), errors.Is(err, ErrNewer) != newer:
		t.Errorf("got error %v", err)
	}
}

func FuzzInstant(f *testing.F) {
	f.Add(int64(0), int64(0))
	f.Add(int64(-62135596800), int64(1))
	f.Fuzz(func(t *testing.T, s, n int64) {
		if s < -62135596800 || s > 253402300799 || n < 0 || n >= second {
			return
		}
		date := time.Unix(s, n)
		got, err := parseInstant(formatParts(s, n))
		if err != nil || !got.Equal(date) {
			t.Fatal(got, date, err)
		}
		d := time.Duration(s % 9e9 * second)
		if got, err := parseOptionalSpan(formatSpan(d)); err != nil || *got != d {
			t.Fatal(got, d, err)
		}
	})
}

// FuzzDueEntry writes an entry and reads it back, and reads anything as one. What
// is taken is of a kind that we know, and the same once it is written again; its
// text may be another, as the moment before it, and spaces, are not kept.
func FuzzDueEntry(f *testing.F) {
	f.Add("t", "c", "s")
	f.Add("default", "web/one é", `- ["instance","t","c","0123456789abcdef"]`)
	f.Add("", "", `1893553445.000000 ["source", "t", null, "<&>\ud800"]`)
	f.Add("", "", `- ["later","t","c",""]`)
	f.Add("", "", `["pool","t","c",""]`)
	f.Fuzz(func(t *testing.T, tenant, id, name string) {
		kinds := []string{dueInstance, dueSource, duePool, dueWhole}
		if got, err := parseDueEntry(name); err == nil {
			again, err := parseDueEntry(got.member())
			if err != nil || again != got || !slices.Contains(kinds, got.kind) {
				t.Errorf("%q is %+v, and then %+v, %v", name, got, again, err)
			}
		}
		for _, text := range []string{tenant, id, name} {
			if strings.ToValidUTF8(text, "") != text {
				return
			}
		}
		for _, kind := range kinds {
			e := dueEntry{kind, ctf.ChallengeKey{Tenant: ctf.Tenant(tenant), ID: ctf.ChallengeID(id)}, name}
			if got, err := parseDueEntry(e.member()); err != nil || got != e {
				t.Fatal(got, e, err)
			}
		}
	})
}

func kindOf(client redis.UniversalClient) string {
	if _, ok := client.(*redis.ClusterClient); ok {
		return "cluster"
	}
	if strings.Contains(client.(*redis.Client).Options().Addr, "Failover") {
		return "sentinel"
	}
	return "client"
}
