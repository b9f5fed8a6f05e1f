package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
)

// terms are what a challenge is created with, and what of it may change.
type terms struct {
	scenario, dir string
	access        registryAccess
	timeout       time.Duration
	until         time.Time
	additional    map[string]string
	min, max      int64
}

func (t *terms) register(flags *pflag.FlagSet) {
	flags.StringVar(&t.scenario, "scenario", "", "`reference` of the scenario: registry/repository[:tag][@digest]")
	flags.StringVar(&t.dir, "dir", "", "`directory` to push to the reference first")
	flags.StringVar(&t.dir, "directory", "", "the same as --dir")
	t.access.register(flags)
	flags.DurationVar(&t.timeout, "timeout", 0, "how long an instance lives, as 90m or 1h30m")
	flags.Func("until", "`date` when all instances end, as 31-12-2030 (UTC) or 2030-12-31T18:00:00Z", func(text string) (err error) {
		t.until, err = parseDate(text)
		return err
	})
	registerAdditional(flags, &t.additional, "`key=value` that the scenario gets; may be repeated")
	flags.Int64Var(&t.min, "min", 0, "`number` of instances kept ready")
	flags.Int64Var(&t.max, "max", 0, "`number` of instances at which no more are kept ready; 0 is without limit")
}

// registerAdditional adds the flag for settings. A value may hold anything,
// commas and equal signs included.
func registerAdditional(flags *pflag.FlagSet, pairs *map[string]string, usage string) {
	flags.Func("additional", usage, func(text string) error {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return errors.New("must be key=value")
		}
		if *pairs == nil {
			*pairs = map[string]string{}
		}
		(*pairs)[key] = value
		return nil
	})
}

func parseDate(text string) (time.Time, error) {
	if day, err := time.Parse("02-01-2006", text); err == nil {
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("must be a date as 31-12-2030 or 2030-12-31T18:00:00Z")
	}
	return at, nil
}

// push pushes the directory, if one is given.
func (t *terms) push(ctx context.Context, c *client) error {
	if t.dir == "" {
		return nil
	}
	if t.scenario == "" {
		return usageError{"--dir needs --scenario, which says where to push to"}
	}
	_, err := t.access.push(ctx, c, t.dir, t.scenario)
	return err
}

func (t *terms) creation(id string, flags *pflag.FlagSet) *challengev1.CreateChallengeRequest {
	req := &challengev1.CreateChallengeRequest{Id: id, Scenario: t.scenario, Additional: t.additional, Min: t.min, Max: t.max}
	if flags.Changed("timeout") {
		req.Timeout = durationpb.New(t.timeout)
	}
	if flags.Changed("until") {
		req.Until = timestamppb.New(t.until)
	}
	return req
}

// change names in its mask what the flags name.
func (t *terms) change(id string, flags *pflag.FlagSet, r resets) *challengev1.UpdateChallengeRequest {
	req := &challengev1.UpdateChallengeRequest{Id: id, UpdateMask: &fieldmaskpb.FieldMask{}}
	named := func(field string, reset bool) bool {
		changed := flags.Changed(field)
		if changed || reset {
			req.UpdateMask.Paths = append(req.UpdateMask.Paths, field)
		}
		return changed
	}
	if named("scenario", false) {
		req.Scenario = &t.scenario
	}
	if named("timeout", r.timeout) {
		req.Timeout = durationpb.New(t.timeout)
	}
	if named("until", r.until) {
		req.Until = timestamppb.New(t.until)
	}
	if named("additional", r.additional) {
		req.Additional = t.additional
	}
	if named("min", false) {
		req.Min = t.min
	}
	if named("max", false) {
		req.Max = t.max
	}
	if flags.Changed("strategy") {
		strategy := strategies()[r.strategy]
		req.UpdateStrategy = &strategy
	}
	return req
}

// resets are the flags that an update has beyond the terms.
type resets struct {
	timeout, until, additional bool
	strategy                   string
}

func strategies() map[string]challengev1.UpdateStrategy {
	return map[string]challengev1.UpdateStrategy{
		"in-place":   challengev1.UpdateStrategy_update_in_place,
		"blue-green": challengev1.UpdateStrategy_blue_green,
		"recreate":   challengev1.UpdateStrategy_recreate,
	}
}

func (r *resets) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&r.timeout, "reset-timeout", false, "let instances live without a timeout")
	flags.BoolVar(&r.until, "reset-until", false, "remove the date when all instances end")
	flags.BoolVar(&r.additional, "reset-additional", false, "remove all additional settings")
	for _, field := range []string{"timeout", "until", "additional"} {
		cmd.MarkFlagsMutuallyExclusive(field, "reset-"+field)
	}
	r.strategy = "in-place"
	names := []string{"in-place", "blue-green", "recreate"}
	flags.Var(choice{&r.strategy, names}, "strategy", "how running instances follow: "+strings.Join(names, ", "))
	complete(cmd, "strategy", names...)
}
