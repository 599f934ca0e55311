//go:build unix

package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

func Example() {
	ctx := context.Background()
	client, err := sidecar.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	clock, err := client.Connect(ctx, "clock", &sidecar.ServerConfig{
		Transport: sidecar.Stdio{Command: "mcp-server-time"},
	})
	if err != nil {
		log.Fatal(err)
	}
	result, err := clock.Call(ctx, "convert_time", map[string]any{
		"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.IsError, len(result.Content))
	// Output: false 1
}

func ExampleServer_Tools() {
	ctx := context.Background()
	client, err := sidecar.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	clock, err := client.Connect(ctx, "clock", &sidecar.ServerConfig{Transport: sidecar.Stdio{Command: "mcp-server-time"}})
	if err != nil {
		log.Fatal(err)
	}
	for tool, err := range clock.Tools(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(tool.Name)
	}
	// Output:
	// get_current_time
	// convert_time
}

func ExampleServer_With() {
	ctx := context.Background()
	client, err := sidecar.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	server, err := client.Connect(ctx, "everything", &sidecar.ServerConfig{Transport: sidecar.Stdio{
		Command: "node", Args: []string{"../node_modules/@modelcontextprotocol/server-everything/dist/index.js", "stdio"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	slow := server.With(sidecar.Progress(func(p *mcp.ProgressNotificationParams) {
		fmt.Printf("%v of %v\n", p.Progress, p.Total)
	}))
	_, err = slow.Call(ctx, "trigger-long-running-operation", map[string]any{"duration": 0.3, "steps": 3})
	fmt.Println(err)
	// Output:
	// 1 of 3
	// 2 of 3
	// 3 of 3
	// <nil>
}

func ExampleError() {
	client, err := sidecar.Start(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Server("nobody").Call(context.Background(), "t", nil)
	fmt.Println(errors.Is(err, sidecar.ErrUnknownServer))

	var failure *sidecar.Error
	if errors.As(err, &failure) {
		fmt.Println(failure.Code, failure.Kind, failure.Delivered, failure.Retry)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_, err = client.Server("nobody").Call(ctx, "t", nil)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// true
	// 1101 UnknownServer no reconnect
	// true
}

func ExampleClient_Scope() {
	ctx := context.Background()
	client, err := sidecar.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	alice := client.Scope(sidecar.Scope{Tenant: "acme", User: "alice"})
	if _, err = alice.Connect(ctx, "clock", &sidecar.ServerConfig{
		Transport: sidecar.Stdio{Command: "mcp-server-time"}, Lazy: true,
	}); err != nil {
		log.Fatal(err)
	}
	bob := client.Scope(sidecar.Scope{Tenant: "acme", User: "bob"})
	_, err = bob.Server("clock").Info(ctx)
	fmt.Println(errors.Is(err, sidecar.ErrUnknownServer))
	// Output: true
}

func ExampleClient_Request() {
	ctx := context.Background()
	client, err := sidecar.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	raw, err := client.Request(ctx, sidecar.MethodPing, map[string]any{"payload": "hello"})
	fmt.Printf("%s %v\n", raw, err)
	// Output: {"payload":"hello"} <nil>
}
