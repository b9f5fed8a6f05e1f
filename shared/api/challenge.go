package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// NewChallenge reads a request to create a challenge. The scenario has its
// reference and no digest yet, the generation is 0. The error, if any, is of
// kind Invalid; bounds of the pool are checked before all else.
func NewChallenge(caller ctf.Caller, req *challengev1.CreateChallengeRequest) (ctf.Challenge, error) {
	if err := ctf.CheckPool(&req.Min, &req.Max); err != nil {
		return ctf.Challenge{}, err
	}
	key, err := ChallengeKey(caller, req.GetId())
	if err != nil {
		return ctf.Challenge{}, err
	}
	timeout, err := readTimeout(req.GetTimeout())
	if err != nil {
		return ctf.Challenge{}, err
	}
	until, err := readUntil(req.GetUntil())
	if err != nil {
		return ctf.Challenge{}, err
	}
	return ctf.Challenge{
		Key:        key,
		Scenario:   ctf.Scenario{Reference: req.GetScenario()},
		Timeout:    timeout,
		Until:      until,
		Additional: req.GetAdditional(),
		Pool:       ctf.Pool{Min: req.GetMin(), Max: req.GetMax()},
	}, nil
}

// NewChallengeChange reads a request to update a challenge. Only what the mask
// names is set; no mask names nothing. The error, if any, is of kind Invalid;
// the mask is checked first, then the bounds of the pool that it names.
func NewChallengeChange(
	caller ctf.Caller, req *challengev1.UpdateChallengeRequest,
) (ctf.ChallengeKey, ctf.ChallengeChange, error) {
	fail := func(err error) (ctf.ChallengeKey, ctf.ChallengeChange, error) {
		return ctf.ChallengeKey{}, ctf.ChallengeChange{}, err
	}
	change, err := readMask(req.GetUpdateMask())
	if err != nil {
		return fail(err)
	}
	if err := checkNamedBounds(change, req); err != nil {
		return fail(err)
	}
	key, err := ChallengeKey(caller, req.GetId())
	if err != nil {
		return fail(err)
	}
	if change.Strategy, err = readStrategy(req.UpdateStrategy); err != nil {
		return fail(err)
	}
	if err := fillChange(&change, req); err != nil {
		return fail(err)
	}
	return key, change, nil
}

// readMask sets the flags of the fields that the mask names.
func readMask(mask *fieldmaskpb.FieldMask) (ctf.ChallengeChange, error) {
	var change ctf.ChallengeChange
	for _, path := range mask.GetPaths() {
		switch path {
		case "scenario":
			change.SetScenario = true
		case "timeout":
			change.SetTimeout = true
		case "until":
			change.SetUntil = true
		case "additional":
			change.SetAdditional = true
		case "min":
			change.SetMin = true
		case "max":
			change.SetMax = true
		case "id", "update_strategy", "update_mask":
			// They exist, so clients may name them, but they are no part of a
			// challenge.
		default:
			return change, ctf.InvalidUpdateMask(strings.Join(mask.GetPaths(), ","), fmt.Sprintf(
				"%q can't be updated; use scenario, timeout, until, additional, min and max", path))
		}
	}
	return change, nil
}

func checkNamedBounds(change ctf.ChallengeChange, req *challengev1.UpdateChallengeRequest) error {
	var minimum, maximum *int64
	if change.SetMin {
		minimum = &req.Min
	}
	if change.SetMax {
		maximum = &req.Max
	}
	return ctf.CheckPool(minimum, maximum)
}

// fillChange copies the fields that are to be set.
func fillChange(change *ctf.ChallengeChange, req *challengev1.UpdateChallengeRequest) (err error) {
	if change.SetScenario {
		change.Scenario.Reference = req.GetScenario()
	}
	if change.SetTimeout {
		if change.Timeout, err = readTimeout(req.GetTimeout()); err != nil {
			return err
		}
	}
	if change.SetUntil {
		if change.Until, err = readUntil(req.GetUntil()); err != nil {
			return err
		}
	}
	if change.SetAdditional {
		change.Additional = req.GetAdditional()
	}
	if change.SetMin {
		change.Pool.Min = req.GetMin()
	}
	if change.SetMax {
		change.Pool.Max = req.GetMax()
	}
	return nil
}

func readStrategy(strategy *challengev1.UpdateStrategy) (ctf.Strategy, error) {
	if strategy == nil {
		return ctf.InPlace, nil
	}
	switch *strategy {
	case challengev1.UpdateStrategy_update_in_place:
		return ctf.InPlace, nil
	case challengev1.UpdateStrategy_blue_green:
		return ctf.BlueGreen, nil
	case challengev1.UpdateStrategy_recreate:
		return ctf.Recreate, nil
	default:
		return "", ctf.InvalidField("update_strategy", fmt.Sprintf(
			"%d is no strategy; use update_in_place (0), blue_green (1) or recreate (2)", *strategy))
	}
}

// ChallengeKey reads the id of a challenge. The error, if any, is of kind
// Invalid and names the field id.
func ChallengeKey(caller ctf.Caller, id string) (ctf.ChallengeKey, error) {
	challenge := ctf.ChallengeID(id)
	if err := challenge.Validate(); err != nil {
		return ctf.ChallengeKey{}, err
	}
	return caller.Challenge(challenge), nil
}

// Challenge writes a challenge with the instances given. They are sorted by
// source, so that equal states give equal answers.
func Challenge(c ctf.Challenge, instances []ctf.Instance) *challengev1.Challenge {
	out := &challengev1.Challenge{
		Id:         string(c.Key.ID),
		Scenario:   c.Scenario.Reference,
		Additional: c.Additional,
		Min:        c.Pool.Min,
		Max:        c.Pool.Max,
	}
	if c.Timeout != nil {
		out.Timeout = durationpb.New(*c.Timeout)
	}
	if c.Until != nil {
		out.Until = timestamppb.New(*c.Until)
	}
	sorted := slices.SortedFunc(slices.Values(instances), func(a, b ctf.Instance) int {
		return strings.Compare(string(a.Source), string(b.Source))
	})
	for _, i := range sorted {
		out.Instances = append(out.Instances, Instance(i))
	}
	return out
}

// readTimeout reads a span. The wire's reaches further than Go's 292 years.
func readTimeout(timeout *durationpb.Duration) (*time.Duration, error) {
	if timeout == nil {
		return nil, nil
	}
	if err := timeout.CheckValid(); err != nil {
		return nil, ctf.InvalidField("timeout", "must be a valid duration")
	}
	d := timeout.AsDuration()
	if back := durationpb.New(d); back.Seconds != timeout.Seconds || back.Nanos != timeout.Nanos {
		return nil, ctf.InvalidField("timeout", "must be shorter than 292 years")
	}
	return &d, nil
}

func readUntil(until *timestamppb.Timestamp) (*time.Time, error) {
	if until == nil {
		return nil, nil
	}
	if err := until.CheckValid(); err != nil {
		return nil, ctf.InvalidField("until", "must be between the years 1 and 9999")
	}
	t := until.AsTime()
	return &t, nil
}
