module github.com/mayfly-ctf/mayfly/functions

go 1.26.0

replace (
	github.com/mayfly-ctf/mayfly/shared => ../shared
	github.com/mayfly-ctf/mayfly/shared/sdk => ../shared/sdk
)
