package serve

import (
	_ "embed"
	"net/http"

	swaggerfiles "github.com/swaggo/files/v2"

	"github.com/mayfly-ctf/mayfly/shared/api"
)

// The viewer's own shows an example; ours shows our document.
//
//go:embed swagger-initializer.js
var swaggerInitializer []byte

func newSwagger() http.Handler {
	viewer := http.StripPrefix("/swagger/", http.FileServerFS(swaggerfiles.FS))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/swagger/swagger.json":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(api.OpenAPI())
		case "/swagger/swagger-initializer.js":
			w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
			_, _ = w.Write(swaggerInitializer)
		default:
			viewer.ServeHTTP(w, r)
		}
	})
}
