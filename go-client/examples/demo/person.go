package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/forms"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// person is who sits at the terminal. Without a terminal, questions are answered with their defaults and examples.
type person struct {
	out   func(format string, args ...any)
	lines <-chan string // nil: nobody is there

	mu    sync.Mutex
	asked int
}

func newPerson(out func(format string, args ...any)) *person {
	p := &person{out: out}
	if isTerminal(os.Stdin) {
		lines := make(chan string)
		go func() { // ends with the program: a read of a terminal cannot be interrupted
			in := bufio.NewScanner(os.Stdin)
			for in.Scan() {
				lines <- in.Text()
			}
			close(lines)
		}()
		p.lines = lines
	}
	return p
}

// isTerminal reports whether somebody may be typing: a character device that is not the null device.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && !os.SameFile(info, null)
}

// answer is the demo's Options.Elicit.
func (p *person) answer(ctx context.Context, request *sidecar.ElicitRequest) (*mcp.ElicitResult, error) {
	p.mu.Lock() // one question at a time on one terminal
	defer p.mu.Unlock()
	p.asked++
	form, err := forms.Parse(request.Params.RequestedSchema)
	if err != nil {
		return nil, err
	}
	p.out("   %s asks: %s", request.Server.Name(), request.Params.Message)
	if p.lines == nil {
		p.out("   (no terminal: answered with %d examples, the rest by default)", len(form.Object(true)))
		return &mcp.ElicitResult{Action: "accept", Content: form.Object(true)}, nil
	}
	p.out("   (Enter takes the value in brackets, . declines)")
	content := map[string]any{}
	for _, name := range form.Names() {
		property := form.Properties[name]
		for {
			p.out("   %s (%s):", name, property.Hint())
			text, err := p.line(ctx)
			if err != nil {
				return nil, err
			}
			if text == "." {
				return &mcp.ElicitResult{Action: "decline"}, nil
			}
			if text == "" {
				if property.Default == nil {
					content[name] = property.Value()
				}
				break
			}
			value, err := property.Read(text)
			if err == nil {
				content[name] = value
				break
			}
			p.out("   %v", err)
		}
	}
	return &mcp.ElicitResult{Action: "accept", Content: content}, nil
}

func (p *person) line(ctx context.Context) (string, error) {
	select {
	case text, ok := <-p.lines:
		if !ok {
			return ".", nil
		}
		return strings.TrimSpace(text), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// logIn is the demo's Options.Authorize: it does what a person with a browser would, which is to open the URL and
// agree, and returns where the browser is sent. The demo's authorization server agrees at once.
func (p *person) logIn(ctx context.Context, required *sidecar.AuthRequired) (string, error) {
	target, err := url.Parse(required.Authorization.URL)
	if err != nil {
		return "", err
	}
	p.out("   %s wants a login at %s%s until %s", required.Server.Name(), target.Host, target.Path,
		required.Authorization.ExpiresAt.Format(time.TimeOnly))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, required.Authorization.URL, http.NoBody)
	if err != nil {
		return "", err
	}
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := browser.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if location := answer.Header.Get("Location"); location != "" {
		return location, nil
	}
	return "", fmt.Errorf("the authorization server answers %s and no redirect", answer.Status)
}
