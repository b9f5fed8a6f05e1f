module github.com/mayfly-ctf/mayfly/functions

go 1.26.0

replace (
	github.com/mayfly-ctf/mayfly/shared => ../shared
	github.com/mayfly-ctf/mayfly/shared/sdk => ../shared/sdk
)

require (
	connectrpc.com/connect v1.21.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mayfly-ctf/mayfly/shared v0.0.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.10 // indirect
	golang.org/x/sync v0.24.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
