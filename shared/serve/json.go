package serve

import (
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonMarshaler is grpc-gateway's own JSON, with streams made faster.
type jsonMarshaler struct{ runtime.JSONPb }

// newJSON returns the JSON of REST: every field is there, and keys that nobody
// knows are ignored.
func newJSON() *jsonMarshaler {
	return &jsonMarshaler{runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}}
}

// Marshal makes the JSON of an answer. The original makes that of a stream's
// message, parses and copies it into the object around it; here it is made in
// its place.
func (m *jsonMarshaler) Marshal(v any) ([]byte, error) {
	around, _ := v.(map[string]any)
	message, ok := around["result"].(proto.Message)
	if !ok || len(around) != 1 {
		return m.JSONPb.Marshal(v)
	}
	out, err := m.MarshalOptions.MarshalAppend([]byte(`{"result":`), message)
	return append(out, '}'), err
}
