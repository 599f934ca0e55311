package mcp

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestAResultKeepsEverythingAndReadsWhatItKnows(t *testing.T) {
	raw := `{"content":[{"type":"text","text":"a","_meta":{"x":1}},{"type":"image","data":"aGk=","mimeType":"image/png"},` +
		`{"type":"audio","data":"aGk=","mimeType":"audio/wav"},` +
		`{"type":"resource_link","uri":"u:","name":"n","size":12.0,"annotations":{"audience":["user"],"priority":0.5}},` +
		`{"type":"resource","resource":{"uri":"u:","blob":"aGk="}},` +
		`{"type":"hologram","cells":[18446744073709551616]},{"type":"text","text":7},{"TYPE":"text"},null],` +
		`"structuredContent":{"n":9007199254740993},"isError":true,"ISERROR":false,"_meta":{"k":[1]},"future":{"a":null}}`
	var result CallToolResult
	if err := json.Unmarshal([]byte(raw), &result); err != nil {
		t.Fatal(err)
	}
	if string(result.Raw) != raw || !result.IsError || result.Meta["k"] == nil {
		t.Errorf("%+v", result)
	}
	kinds := []string{}
	for _, block := range result.Content {
		switch c := block.(type) {
		case *TextContent:
			kinds = append(kinds, "text:"+c.Text)
		case *ImageContent:
			kinds = append(kinds, "image:"+string(c.Data))
		case *AudioContent:
			kinds = append(kinds, "audio:"+c.MIMEType)
		case *ResourceLink:
			kinds = append(kinds, "link:"+c.Name)
			if *c.Size != 12 || c.Annotations.Priority != 0.5 || c.Annotations.Audience[0] != RoleUser {
				t.Errorf("%+v", c)
			}
		case *EmbeddedResource:
			kinds = append(kinds, "resource:"+string(c.Resource.Blob))
		case *UnknownContent:
			kinds = append(kinds, "unknown:"+c.Type+string(c.Raw))
		}
	}
	want := `text:a image:hi audio:audio/wav link:n resource:hi unknown:hologram{"type":"hologram","cells":[18446744073709551616]} ` +
		`unknown:text{"type":"text","text":7} unknown:{"TYPE":"text"} unknown:null`
	if have := strings.Join(kinds, " "); have != want {
		t.Errorf("\nhave %s\nwant %s", have, want)
	}
	var decoded struct{ N json.Number }
	if err := result.Decode(&decoded); err != nil || decoded.N != "9007199254740993" {
		t.Errorf("%v %v", decoded, err)
	}
	if err := new(CallToolResult).Decode(&decoded); !errors.Is(err, ErrNoStructuredContent) {
		t.Error(err)
	}
}

func TestTheBytesGivenToUnmarshalAreNotKept(t *testing.T) {
	raw := []byte(`{"tools":[{"name":"a","inputSchema":{"type":"object"},"annotations":{"destructiveHint":false}}],"nextCursor":"c"}`)
	var list ListToolsResult
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] = 'x'
	}
	tool := list.Tools[0]
	if tool.Name != "a" || string(tool.InputSchema) != `{"type":"object"}` || *tool.Annotations.DestructiveHint ||
		!json.Valid(tool.Raw) || list.NextCursor != "c" {
		t.Errorf("%+v", tool)
	}
}

func TestAKnownFieldOfAnotherTypeIsNamedInTheError(t *testing.T) {
	var list ListToolsResult
	err := list.UnmarshalJSON([]byte(`{"tools":[{"name":"a"},{"name":7}]}`))
	if err == nil || !strings.Contains(err.Error(), "tools: [1]: name: ") {
		t.Error(err)
	}
}

func TestContentRoundTripsWithItsTag(t *testing.T) {
	for _, raw := range []string{
		`{"type":"text","text":"<&>"}`,
		`{"type":"image","data":"aGk=","mimeType":"image/png"}`,
		`{"type":"resource","resource":{"uri":"u:","text":"t"}}`,
		`{"type":"tool_use","name":"n","id":"i","input":{"b":1.0,"a":2}}`,
		`{"type":"tool_result","toolUseId":"i","content":[{"type":"text","text":"t"}]}`,
		`{"type":"new","x":1}`,
	} {
		var message PromptMessage
		if err := json.Unmarshal([]byte(`{"role":"user","content":`+raw+`}`), &message); err != nil {
			t.Fatal(err)
		}
		have, err := marshal(message)
		if want := `{"role":"user","content":` + raw + `}`; err != nil || string(have) != want {
			t.Errorf("\nhave %s %v\nwant %s", have, err, want)
		}
	}
}
