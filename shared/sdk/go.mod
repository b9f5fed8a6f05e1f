module github.com/mayfly-ctf/mayfly/shared/sdk

go 1.26.0
