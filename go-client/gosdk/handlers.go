package gosdk

import (
	"context"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Handlers puts the handlers of the SDK's client options into those of the sidecar. The requests that they get have
// Params and no Session; progress is a matter of each call ([sidecar.Progress]).
func Handlers(options *sidecar.Options, client *sdk.ClientOptions) {
	if handle := client.ElicitationHandler; handle != nil {
		options.Elicit = func(ctx context.Context, r *sidecar.ElicitRequest) (*mcp.ElicitResult, error) {
			return answered[mcp.ElicitResult](r.Raw, func(params *sdk.ElicitParams) (*sdk.ElicitResult, error) {
				return handle(ctx, &sdk.ElicitRequest{Params: params})
			})
		}
	}
	if handle := client.CreateMessageHandler; handle != nil {
		options.Sample = func(ctx context.Context, r *sidecar.SampleRequest) (*mcp.CreateMessageResult, error) {
			return answered[mcp.CreateMessageResult](r.Raw, func(params *sdk.CreateMessageParams) (*sdk.CreateMessageResult, error) {
				return handle(ctx, &sdk.CreateMessageRequest{Params: params})
			})
		}
	}
	if handle := client.CreateMessageWithToolsHandler; handle != nil {
		options.Sample = func(ctx context.Context, r *sidecar.SampleRequest) (*mcp.CreateMessageResult, error) {
			return answered[mcp.CreateMessageResult](r.Raw,
				func(params *sdk.CreateMessageWithToolsParams) (*sdk.CreateMessageWithToolsResult, error) {
					return handle(ctx, &sdk.CreateMessageWithToolsRequest{Params: params})
				})
		}
		promise(options).Sampling = &sidecar.SamplingCapabilities{Tools: &struct{}{}}
	}
	if wanted := client.Capabilities; wanted != nil {
		promised(promise(options), wanted)
	}
	observers(options, client)
}

func promise(options *sidecar.Options) *sidecar.Capabilities {
	if options.Capabilities == nil {
		options.Capabilities = &sidecar.Capabilities{}
	}
	return options.Capabilities
}

// promised takes over what the SDK's options say of elicitation and sampling.
func promised(ours *sidecar.Capabilities, theirs *sdk.ClientCapabilities) {
	can := func(is bool) *struct{} {
		if !is {
			return nil
		}
		return &struct{}{}
	}
	if e := theirs.Elicitation; e != nil {
		ours.Elicitation = &sidecar.ElicitationCapabilities{Form: can(e.Form != nil || e.URL == nil), URL: can(e.URL != nil)}
	}
	if s := theirs.Sampling; s != nil { //nolint:staticcheck // deprecated, and works as long as the SDK has it
		ours.Sampling = &sidecar.SamplingCapabilities{Tools: can(s.Tools != nil), Context: can(s.Context != nil)}
	}
}

func observers(options *sidecar.Options, client *sdk.ClientOptions) {
	ctx := context.Background()
	if handle := client.LoggingMessageHandler; handle != nil {
		options.OnLog = func(e *sidecar.LogEvent) {
			if params, err := convert[sdk.LoggingMessageParams](e.Params); err == nil {
				handle(ctx, &sdk.LoggingMessageRequest{Params: params})
			}
		}
	}
	if handle := client.ResourceUpdatedHandler; handle != nil {
		options.OnResourceUpdated = func(e *sidecar.ResourceUpdated) {
			handle(ctx, &sdk.ResourceUpdatedNotificationRequest{Params: &sdk.ResourceUpdatedNotificationParams{URI: e.Params.URI}})
		}
	}
	if handle := client.ElicitationCompleteHandler; handle != nil {
		options.OnElicitationComplete = func(e *sidecar.ElicitationComplete) {
			handle(ctx, &sdk.ElicitationCompleteNotificationRequest{
				Params: &sdk.ElicitationCompleteParams{ElicitationID: e.Params.ElicitationID},
			})
		}
	}
	if client.ToolListChangedHandler == nil && client.PromptListChangedHandler == nil && client.ResourceListChangedHandler == nil {
		return
	}
	options.OnListChanged = func(e *sidecar.ListChanged) {
		switch {
		case e.List == "tools" && client.ToolListChangedHandler != nil:
			client.ToolListChangedHandler(ctx, &sdk.ToolListChangedRequest{Params: &sdk.ToolListChangedParams{}})
		case e.List == "prompts" && client.PromptListChangedHandler != nil:
			client.PromptListChangedHandler(ctx, &sdk.PromptListChangedRequest{Params: &sdk.PromptListChangedParams{}})
		case e.List == "resources" && client.ResourceListChangedHandler != nil:
			client.ResourceListChangedHandler(ctx, &sdk.ResourceListChangedRequest{Params: &sdk.ResourceListChangedParams{}})
		}
	}
}

// answered runs a handler of the SDK on the bytes of a question.
func answered[Out, P, R any](raw []byte, handle func(*P) (*R, error)) (*Out, error) {
	params := new(P)
	if err := read(raw, params); err != nil {
		return nil, err
	}
	result, err := handle(params)
	if err != nil {
		return nil, err
	}
	return convert[Out](result)
}
