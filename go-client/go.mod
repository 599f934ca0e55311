module github.com/mcp-sidecar/mcp-sidecar/go-client

go 1.24
