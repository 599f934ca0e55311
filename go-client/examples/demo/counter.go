package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// serveCounter is the HTTP server that the chaos kills: its one tool notes each call in a file, so that what ran can be
// compared with what the host was told.
func serveCounter(address, journal string) error {
	file, err := os.OpenFile(journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	var mu sync.Mutex
	server := &http.Server{Addr: address, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			var request struct {
				ID     json.RawMessage `json:"id"`
				Method string          `json:"method"`
				Params struct {
					Name string `json:"name"`
				} `json:"params"`
			}
			if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&request) != nil {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			if request.ID == nil {
				w.WriteHeader(http.StatusAccepted)
				return
			}
			answer := `"error":{"code":-32601,"message":"no such method"}`
			switch request.Method {
			case "initialize":
				answer = `"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},` +
					`"serverInfo":{"name":"counter","version":"1"}}`
			case "ping":
				answer = `"result":{}`
			case "tools/list":
				answer = `"result":{"tools":[{"name":"count","inputSchema":{"type":"object"}}]}`
			case "tools/call":
				mu.Lock()
				_, err := fmt.Fprintf(file, "call %s\n", request.Params.Name)
				mu.Unlock()
				if err != nil {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				time.Sleep(callTakes) // so that a kill finds it at work
				answer = `"result":{"content":[]}`
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, request.ID, answer) //nolint:errcheck // whoever is gone is gone
		})}
	return server.ListenAndServe()
}

const callTakes = 20 * time.Millisecond
