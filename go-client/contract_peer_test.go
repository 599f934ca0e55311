package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
)

func TestPeerAnswersQuestionsAsTheTranscriptSays(t *testing.T) {
	wired := newWiredPeer(t, 0)
	wired.handlers = map[string]reverseHandler{
		"test/echo": func(_ context.Context, params json.RawMessage) (any, error) { return params, nil },
		"test/refuse": func(context.Context, json.RawMessage) (any, error) {
			return nil, &Error{Code: CodeInvalidParams, Message: "no", Data: json.RawMessage(`{"path":"/a"}`)}
		},
		"test/never": func(ctx context.Context, _ json.RawMessage) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	steps := loadTranscript(t, "reverse-peers.txt").steps
	match := newMatcher()
	calls := map[string]chan json.RawMessage{}
	ids := map[string]string{} // of the file -> of the peer
	for _, step := range steps {
		var message map[string]any
		decodeExactly(t, step.texts[0], &message)
		method, _ := message["method"].(string)
		name := fmt.Sprint(message["id"])
		switch {
		case step.kind == "send" && method != "":
			done := make(chan json.RawMessage, 1)
			calls[name] = done
			params, err := json.Marshal(message["params"])
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				result, failure := wired.call(context.Background(), method, params, nil)
				if failure != nil {
					result = json.RawMessage(strconv.Quote(failure.Error()))
				}
				done <- result
			}()
			ids[name] = string(wired.next(t).ID)
		case step.kind == "send":
			line := <-wired.lines
			var got any
			decodeExactly(t, string(line), &got)
			if err := match.match(message, got, ""); err != nil {
				t.Errorf("line %d: %v in %s", step.number, err, line)
			}
		case method == "" && calls[name] != nil:
			result, err := json.Marshal(message["result"])
			if err != nil {
				t.Fatal(err)
			}
			wired.write(t, []byte(`{"jsonrpc":"2.0","id":`+ids[name]+`,"result":`+string(result)+"}\n"))
			if got := <-calls[name]; !bytes.Equal(got, result) {
				t.Errorf("line %d: the call ended with %s", step.number, got)
			}
		default:
			raw, err := json.Marshal(instance(message))
			if err != nil {
				t.Fatal(err)
			}
			wired.write(t, append(raw, '\n'))
		}
	}
}
