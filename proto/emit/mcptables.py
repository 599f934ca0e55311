"""What `mcptypes.py` cannot derive: which MCP payload types exist in Go, under which names, and the exceptions.

Names and fields are those of github.com/modelcontextprotocol/go-sdk/mcp, so that moving over is a change of import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Row:
    """One Go type: the Python models it is made of (merged when there are two) and what it is for."""

    go: str
    models: tuple[str, ...]
    kind: str = "plain"
    """plain, params, result (keeps Raw), element (of a list; keeps Raw) or content (tagged, sealed)."""


ROWS: Final = (
    Row("Annotations", ("Annotations",)),
    Row("Icon", ("Icon",)),
    Row("Implementation", ("Implementation",)),
    Row("CompletionCapabilities", ("CompletionsCapability",)),
    Row("LoggingCapabilities", ("LoggingCapability",)),
    Row("PromptCapabilities", ("PromptsCapability",)),
    Row("ResourceCapabilities", ("ResourcesCapability",)),
    Row("ToolCapabilities", ("ToolsCapability",)),
    Row("ServerCapabilities", ("ServerCapabilities",)),
    Row("TextContent", ("TextContent",), "content"),
    Row("ImageContent", ("ImageContent",), "content"),
    Row("AudioContent", ("AudioContent",), "content"),
    Row("ResourceLink", ("ResourceLink",), "content"),
    Row("EmbeddedResource", ("EmbeddedResource",), "content"),
    Row("ToolUseContent", ("ToolUseContent",), "content"),
    Row("ToolResultContent", ("ToolResultContent",), "content"),
    Row("ResourceContents", ("TextResourceContents", "BlobResourceContents")),
    Row("PingParams", ("RequestParams",), "params"),
    Row("ListToolsParams", ("PaginatedRequestParams",), "params"),
    Row("ListToolsResult", ("ListToolsResult",), "result"),
    Row("Tool", ("Tool",), "element"),
    Row("ToolAnnotations", ("ToolAnnotations",)),
    Row("ToolExecution", ("ToolExecution",)),
    Row("TaskMetadata", ("TaskMetadata",)),
    Row("CallToolParams", ("CallToolRequestParams",), "params"),
    Row("CallToolResult", ("CallToolResult",), "result"),
    Row("ListResourcesParams", ("PaginatedRequestParams",), "params"),
    Row("ListResourcesResult", ("ListResourcesResult",), "result"),
    Row("Resource", ("Resource",), "element"),
    Row("ListResourceTemplatesParams", ("PaginatedRequestParams",), "params"),
    Row("ListResourceTemplatesResult", ("ListResourceTemplatesResult",), "result"),
    Row("ResourceTemplate", ("ResourceTemplate",), "element"),
    Row("ReadResourceParams", ("ReadResourceRequestParams",), "params"),
    Row("ReadResourceResult", ("ReadResourceResult",), "result"),
    Row("SubscribeParams", ("SubscribeRequestParams",), "params"),
    Row("UnsubscribeParams", ("UnsubscribeRequestParams",), "params"),
    Row("ResourceUpdatedNotificationParams", ("ResourceUpdatedNotificationParams",), "params"),
    Row("ListPromptsParams", ("PaginatedRequestParams",), "params"),
    Row("ListPromptsResult", ("ListPromptsResult",), "result"),
    Row("Prompt", ("Prompt",), "element"),
    Row("PromptArgument", ("PromptArgument",)),
    Row("GetPromptParams", ("GetPromptRequestParams",), "params"),
    Row("GetPromptResult", ("GetPromptResult",), "result"),
    Row("PromptMessage", ("PromptMessage",)),
    Row("CompleteParams", ("CompleteRequestParams",), "params"),
    Row("CompleteParamsArgument", ("CompletionArgument",)),
    Row("CompleteContext", ("CompletionContext",)),
    Row("CompleteReference", ("PromptReference", "ResourceTemplateReference")),
    Row("CompleteResult", ("CompleteResult",), "result"),
    Row("CompletionResultDetails", ("Completion",)),
    Row("SetLoggingLevelParams", ("SetLevelRequestParams",), "params"),
    Row("LoggingMessageParams", ("LoggingMessageNotificationParams",), "params"),
    Row("ProgressNotificationParams", ("ProgressNotificationParams",), "params"),
    Row("ElicitParams", ("ElicitRequestFormParams", "ElicitRequestURLParams"), "params"),
    Row("ElicitResult", ("ElicitResult",), "result"),
    Row("ElicitationCompleteParams", ("ElicitCompleteNotificationParams",), "params"),
    Row("CreateMessageParams", ("CreateMessageRequestParams",), "params"),
    Row("CreateMessageResult", ("CreateMessageResultWithTools",), "result"),
    Row("SamplingMessage", ("SamplingMessage",)),
    Row("ModelPreferences", ("ModelPreferences",)),
    Row("ModelHint", ("ModelHint",)),
    Row("ToolChoice", ("ToolChoice",)),
    Row("Root", ("Root",)),
    Row("ListRootsParams", ("RequestParams",), "params"),
    Row("ListRootsResult", ("ListRootsResult",), "result"),
    Row("Task", ("TaskStatusNotificationParams",), "result"),
)
"""In the order of the generated file."""

TYPES: Final = {
    ("ServerCapabilities", "experimental"): "map[string]any",
    ("ServerCapabilities", "extensions"): "map[string]any",
    ("ServerCapabilities", "tasks"): "json.RawMessage",  # an experiment of one version; no type in the Go SDK
    ("ImageContent", "data"): "[]byte",
    ("AudioContent", "data"): "[]byte",
    ("ResourceContents", "blob"): "[]byte",
    ("ResourceLink", "size"): "*int64",
    ("Resource", "size"): "int64",
    ("EmbeddedResource", "resource"): "*ResourceContents",
    ("ReadResourceResult", "contents"): "[]*ResourceContents",
    ("ToolUseContent", "input"): "json.RawMessage",  # Go SDK: map[string]any, which loses integers past 2^53
    ("Tool", "input_schema"): "json.RawMessage",  # Go SDK: any; bytes lose nothing and cost nothing
    ("Tool", "output_schema"): "json.RawMessage",
    ("ToolAnnotations", "destructive_hint"): "*bool",  # absent means true
    ("ToolAnnotations", "open_world_hint"): "*bool",  # absent means true
    ("CallToolParams", "arguments"): "any",  # a json.RawMessage passes as it is
    ("CompleteParams", "ref"): "*CompleteReference",
    ("ElicitParams", "requested_schema"): "json.RawMessage",
    ("ElicitResult", "action"): "string",
    ("ElicitResult", "content"): "map[string]any",
    ("LoggingMessageParams", "data"): "json.RawMessage",
    ("ProgressNotificationParams", "progress_token"): "any",
    ("Root", "uri"): "string",
    ("CreateMessageParams", "max_tokens"): "int64",
    ("CreateMessageParams", "metadata"): "json.RawMessage",  # Go SDK: any; bytes lose nothing
    ("CreateMessageResult", "stop_reason"): "string",
    ("Task", "ttl"): "*int64",  # null is: for ever
}
"""(Go type, field) -> Go type where the rule does not fit."""

ONE_OR_MANY: Final = {("SamplingMessage", "content"), ("CreateMessageResult", "content")}
"""Fields of type Content where a list may stand in place of one block; the Go SDK has types of their own for it."""

NOTES: Final = {
    "Task": "Task is a background task of a server: what a detached call answers, and what is told of it later.",
    "CreateMessageParams": "CreateMessageParams is what a server asks the host's model.",
    "CreateMessageResult": "CreateMessageResult is the model's answer. Content is one block, or [Contents].",
    "SamplingMessage": "SamplingMessage is one message of the conversation. Content is one block, or [Contents].",
}
"""Doc comments where the model's own does not fit."""

FIELD_NAMES: Final = {("Icon", "src"): "Source"}

DROPPED: Final = {
    "input_responses",  # the sidecar answers input rounds itself
    "request_state",
    "result_type",  # likewise; Raw shows it
}

ENUMS: Final = {
    "Role": ("Role", ("user", "assistant"), "Role is the sender or recipient of messages and data."),
    "LoggingLevel": (
        "LoggingLevel",
        ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"),
        "LoggingLevel is the severity of a server's log message, the syslog levels of RFC 5424.",
    ),
    "IconTheme": ("IconTheme", ("light", "dark"), "IconTheme is the background an icon is made for."),
}
"""Named string types: the name, the values of the Literal they stand for, the doc comment."""
