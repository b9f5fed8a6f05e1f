package redis

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const second = int64(time.Second)

// Instants and spans are stored as text, "seconds.nnnnnnnnn", with nanoseconds
// that count forward even when the seconds are negative. So user dates come back
// to the digit, and a script can add and compare them; unset is "".

func formatOptionalInstant(t *time.Time) string {
	if t == nil {
		return ""
	}
	return formatParts(t.Unix(), int64(t.Nanosecond()))
}

func formatSpan(d time.Duration) string {
	s, n := int64(d)/second, int64(d)%second
	if n < 0 {
		s, n = s-1, n+second
	}
	return formatParts(s, n)
}

func formatOptionalSpan(d *time.Duration) string {
	if d == nil {
		return ""
	}
	return formatSpan(*d)
}

func formatParts(s, n int64) string { return fmt.Sprintf("%d.%09d", s, n) }

func parseInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	s, n, err := parseParts(text)
	if err != nil {
		return time.Time{}, err
	}
	t := time.Unix(s, n).UTC()
	if t.Year() < 1 || t.Year() > 9999 { // no message can hold it
		return time.Time{}, fmt.Errorf("read the instant %q: %w", text, errors.New("it is not within the years 1 to 9999"))
	}
	return t, nil
}

func parseOptionalInstant(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	t, err := parseInstant(text)
	return &t, err
}

func parseOptionalSpan(text string) (*time.Duration, error) {
	if text == "" {
		return nil, nil
	}
	s, n, err := parseParts(text)
	if err != nil {
		return nil, err
	}
	d := time.Duration(s)*time.Second + time.Duration(n)
	if formatSpan(d) != text {
		return nil, fmt.Errorf("read the span %q: %w", text, errors.New("it is of more than 292 years"))
	}
	return &d, nil
}

func parseParts(text string) (s, n int64, err error) {
	whole, fraction, ok := strings.Cut(text, ".")
	if !ok || len(fraction) != 9 {
		return 0, 0, fmt.Errorf("read the instant %q: %w", text, errors.New("it needs nine digits after the point"))
	}
	if s, err = strconv.ParseInt(whole, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("read the instant %q: %w", text, err)
	}
	unsigned, err := strconv.ParseUint(fraction, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("read the instant %q: %w", text, err)
	}
	if n = int64(unsigned); formatParts(s, n) != text { // scripts read no plus sign
		return 0, 0, fmt.Errorf("read the instant %q: %w", text, errors.New("it is not as instants are written"))
	}
	return s, n, nil
}
