package serve

import (
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
)

// isREST tells whether a request is of the REST API, and not of an RPC
// protocol.
func isREST(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/v1/") }

// WriteError answers a request with an error as the errors of verbs are
// answered: in the protocol that the caller speaks, with the code of the
// [ctf.Error] in it, and with nothing that is not for the caller. Headers that
// are set already go along. Nothing may have been written before.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	public := publicError(codeOf(r.Context(), err), err)
	if isREST(r) {
		writeREST(w, r, public)
		return
	}
	_ = connect.NewErrorWriter().Write(w, r, public) // Who asked has left; there is nobody to tell.
}

func writeREST(w http.ResponseWriter, r *http.Request, err *connect.Error) {
	body := &spb.Status{Code: int32(err.Code()), Message: err.Message()} //nolint:gosec // There are 16 codes.
	for _, d := range err.Details() {
		body.Details = append(body.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type(), Value: d.Bytes()})
	}
	_, marshaler := runtime.MarshalerForRequest(runtime.NewServeMux(), r)
	raw, failed := marshaler.Marshal(body)
	if failed != nil {
		http.Error(w, err.Message(), http.StatusInternalServerError) // Our own details can always be marshalled.
		return
	}
	w.Header().Set("Content-Type", marshaler.ContentType(body))
	w.WriteHeader(runtime.HTTPStatusFromCode(codes.Code(err.Code())))
	_, _ = w.Write(raw) // Who asked has left; there is nobody to tell.
}
