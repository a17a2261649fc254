package ecs

// protoc is Debian's protobuf-compiler; the two plug-ins come from the Go module
// proxy, at the versions of go.mod where it has them.
//go:generate sh -c "GOBIN=$PWD/.bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 && GOBIN=$PWD/.bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2 && PATH=$PWD/.bin:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative credentialsfetcher.proto && rm -rf .bin"
