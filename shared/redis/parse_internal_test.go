package redis

import (
	"bytes"
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

// wantDiscreet fails if an error tells a part of the password that is long
// enough to be one, and nowhere else in the address.
func wantDiscreet(t *testing.T, err error, address string) {
	t.Helper()
	const part = 6
	_, rest, _ := strings.Cut(address, "://")
	user := rest[:max(0, strings.LastIndex(rest, "@"))]
	_, password, _ := strings.Cut(user, ":")
	for n := 0; n+part <= len(password); n++ {
		if piece := password[n : n+part]; strings.Count(address, piece) == 1 && strings.Contains(err.Error(), piece) {
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

func FuzzDecodeRecords(f *testing.F) {
	k := ring(f)
	f.Add("1", "ready", "1.000000000", "3", `{"a":"b"}`, "x")
	f.Add("2", "", "-1.5", "-", "[]", "")
	f.Add("1", "failed", "9223372036854775807.000000000", "7", "", "")
	f.Add("1", "updating", "+1.000000000", "7", "", "")
	f.Fuzz(func(t *testing.T, schema, state, date, number, additional, sealed string) {
		record := fields{"schema": schema, "state": state, "ends_at": date, "since": date, "timeout": date, "min": number,
			"generation": number, "additional": additional, "info": sealed}
		if c, err := decodeChallenge(record); err == nil && c.Until != nil {
			until, errUntil := parseOptionalInstant(formatOptionalInstant(c.Until))
			timeout, errTimeout := parseOptionalSpan(formatOptionalSpan(c.Timeout))
			if errUntil != nil || errTimeout != nil || !until.Equal(*c.Until) || *timeout != *c.Timeout {
				t.Fatal(c, until, timeout, errUntil, errTimeout)
			}
		}
		if i, err := decodeInstance(k, ctf.InstanceKey{}, record); err == nil && i.State == "" {
			t.Fatal(i)
		}
		if _, err := decodeEvent(ctf.ChallengeKey{}, map[string]any{"id": number, "at": date}); err == nil && !strings.Contains(number, "/") {
			t.Fatal(number)
		}
	})
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

func FuzzDueEntry(f *testing.F) {
	f.Add("t", "c", "s")
	f.Fuzz(func(t *testing.T, tenant, id, name string) {
		for _, text := range []string{tenant, id, name} {
			if strings.ToValidUTF8(text, "") != text {
				return
			}
		}
		e := dueEntry{dueSource, ctf.ChallengeKey{Tenant: ctf.Tenant(tenant), ID: ctf.ChallengeID(id)}, name}
		got, err := parseDueEntry(e.member())
		if err != nil || got != e {
			t.Fatal(got, e, err)
		}
		_, _ = parseDueEntry(name)
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
