// Command hello answers every request, as HTTP/1.1 and HTTP/2.
package main

import (
	"net/http"
	"os"
	"time"
)

func main() {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Addr: ":" + os.Getenv("PORT"), Protocols: protocols, ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	}
	if server.ListenAndServe() != nil {
		os.Exit(1)
	}
}
