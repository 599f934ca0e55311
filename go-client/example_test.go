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

func ExampleOptions_elicit() {
	ctx := context.Background()
	client, err := sidecar.Start(ctx, &sidecar.Options{
		Elicit: func(_ context.Context, request *sidecar.ElicitRequest) (*mcp.ElicitResult, error) {
			fmt.Println(request.Server.Name(), "asks:", request.Params.Message)
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
	})
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
	_, err = server.Call(ctx, "trigger-elicitation-request", nil)
	fmt.Println(err)
	// Output:
	// everything asks: Please provide inputs for the following fields:
	// <nil>
}

func ExampleServer_Events() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := sidecar.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	clock := client.Server("clock")
	events := clock.Events(ctx) // from here on nothing is missed
	if _, err = client.Connect(ctx, "clock", &sidecar.ServerConfig{
		Transport: sidecar.Stdio{Command: "mcp-server-time"},
	}); err != nil {
		log.Fatal(err)
	}
	for event := range events {
		if info, ok := event.(*sidecar.ServerInfo); ok {
			fmt.Println(info.State)
			if info.State == sidecar.StateReady {
				break
			}
		}
	}
	// Output:
	// connecting
	// ready
}

func ExampleAuthRequiredError() {
	// Where no person is needed, or one has logged in already, the error is nil.
	login := func(ctx context.Context, client *sidecar.Client) (visit string, err error) {
		_, err = client.Scope(sidecar.Scope{Tenant: "acme", User: "alice"}).Connect(ctx, "crm", &sidecar.ServerConfig{
			Transport: sidecar.HTTP{URL: "https://mcp.example.com/mcp"},
			Auth:      sidecar.OAuth{Redirect: sidecar.HostRedirect{URI: "https://app.example.com/callback"}},
		})
		var required *sidecar.AuthRequiredError
		if errors.As(err, &required) {
			return required.Authorization.URL, nil // for the browser of alice
		}
		return "", err
	}
	_ = login
}
