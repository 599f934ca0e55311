package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// The servers decode as little as they can and answer with prepared bytes, so that the client is what is measured.

const (
	capabilities = `"capabilities":{"tools":{}}`
	initialized  = `{"protocolVersion":"2025-11-25",` + capabilities + `,"serverInfo":{"name":"bench","version":"1"}}`
	discovered   = `{"supportedVersions":["2026-07-28"],` + capabilities + `,"ttlMs":0,"cacheScope":"private","resultType":"complete",` +
		`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":"1"}}}`
	tools = `{"tools":[{"name":"echo","inputSchema":{"type":"object"}},{"name":"big","inputSchema":{"type":"object"}},` +
		`{"name":"silent","inputSchema":{"type":"object"}}]`
	small = `{"content":[{"type":"text","text":"the answer"}],"isError":false`
)

// message is what a server reads of a request.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string `json:"name"`
		Arguments struct {
			Size int `json:"size"`
		} `json:"arguments"`
	} `json:"params"`
}

// result returns the bytes of a result, or a JSON-RPC error in fault. Both empty: no answer at all.
func (m *message) result(modern bool) (result, fault string) {
	end := "}"
	if modern {
		end = `,"resultType":"complete"}`
	}
	switch m.Method {
	case "tools/call":
		switch m.Params.Name {
		case "echo":
			return small + end, ""
		case "big":
			return strings.TrimSuffix(bigResult(m.Params.Arguments.Size), "}") + end, ""
		case "silent":
			return "", ""
		}
		return "", `{"code":-32602,"message":"unknown tool"}`
	case "tools/list":
		if modern {
			return tools + `,"ttlMs":0,"cacheScope":"private"` + end, ""
		}
		return tools + end, ""
	case "initialize":
		if !modern {
			return initialized, ""
		}
	case "server/discover":
		if modern {
			return discovered, ""
		}
	case "ping":
		return "{}", ""
	}
	return "", `{"code":-32601,"message":"method not found"}`
}

// frame returns the whole answer; empty for a notification and for a call that is never answered.
func (m *message) frame(modern bool) string {
	if len(m.ID) == 0 {
		return ""
	}
	result, fault := m.result(modern)
	switch {
	case fault != "":
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":%s}`, m.ID, fault)
	case result == "":
		return ""
	}
	return `{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + result + `}`
}

var prepared sync.Map // size -> string

// bigResult returns a structured result of at least size bytes: rows of numbers and texts.
func bigResult(size int) string {
	if known, ok := prepared.Load(size); ok {
		return known.(string)
	}
	var text strings.Builder
	text.Grow(size + 256)
	text.WriteString(`{"content":[],"structuredContent":{"rows":[`)
	for row := 0; text.Len() < size; row++ {
		if row > 0 {
			text.WriteByte(',')
		}
		n := strconv.Itoa(row)
		text.WriteString(`{"id":` + n + `,"name":"row number ` + n + `","value":1.50,"tags":["a","b"],"ok":true,"none":null}`)
	}
	text.WriteString(`]}}`)
	prepared.Store(size, text.String())
	return text.String()
}
