package sidecar

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// peerConfig is what a peer needs from its owner. The callbacks run on the read loop and must not block.
type peerConfig struct {
	maxFrame int
	handlers map[string]reverseHandler
	notify   func(method string, params json.RawMessage)
	panicked func(where string, value any) // a handler did; its stack is still there
	broken   func(err error)               // the pipe to the sidecar failed; the owner ends the process, and with it the peer
}

// peer is one JSON-RPC connection over a pair of pipes. It knows no MCP. What is in flight is one entry in one table,
// added in one place and removed on every path; the read loop only decodes, looks up and hands over.
type peer struct {
	peerConfig
	in     io.Reader
	moved  atomic.Int64 // bytes in either direction: whether the other side lives
	writer *frameWriter
	maxOut atomic.Int64
	lastID atomic.Int64

	mu      sync.Mutex
	pending map[int64]*call
	inbound map[string]*inbound // requests of the sidecar by their id
	err     error               // why the peer ended; nil while it lives
	done    chan struct{}       // closed when nothing is pending and nothing more will come
}

func newPeer(in io.Reader, out io.WriteCloser, config peerConfig) *peer {
	if config.maxFrame <= 0 {
		config.maxFrame = defaultMaxFrame
	}
	p := &peer{
		peerConfig: config,
		pending:    map[int64]*call{},
		inbound:    map[string]*inbound{},
		done:       make(chan struct{}),
	}
	p.in = meteredReader{in, &p.moved}
	p.writer = newFrameWriter(meteredWriter{out, &p.moved})
	p.maxOut.Store(int64(config.maxFrame))
	return p
}

// run reads until the stream ends, then fails everything that is open with one error that says why.
func (p *peer) run() {
	go func() {
		if err := p.writer.run(); err != nil && p.broken != nil {
			p.broken(err) // its end of the stream ends the read loop
		}
	}()
	lines := lineReader{in: bufio.NewReaderSize(p.in, 64<<10), max: p.maxFrame}
	var err error
	for {
		var line []byte
		var fault *frameFault
		if line, fault, err = lines.next(); err != nil {
			break
		}
		if fault == nil {
			if isBlank(line) {
				continue
			}
			var f *frame
			if f, fault = parseFrame(line); fault == nil {
				fault = p.take(f)
			}
		}
		if fault != nil {
			p.fault(fault)
		}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the sidecar closed its output")
	}
	p.end(err)
	<-p.writer.done
	close(p.done)
}

func isBlank(line []byte) bool { return jsonscan.Kind(line) == 0 }

// end fails what is open and stops the writer. Safe to call twice; the first reason stays.
func (p *peer) end(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	calls := p.pending
	p.pending = map[int64]*call{}
	for _, asked := range p.inbound {
		asked.cancel()
	}
	p.mu.Unlock()
	p.writer.fail(err)
	for _, c := range calls {
		delivered := DeliveredMaybe
		if p.writer.takeBack(c.frame) {
			delivered = DeliveredNo
		}
		c.settle(nil, errSidecarExited(delivered, err))
	}
}

// take handles one good frame; a fault that only the tables can tell comes back.
func (p *peer) take(f *frame) *frameFault {
	switch {
	case f.hasMethod && f.id != nil:
		return p.request(f)
	case f.hasMethod:
		p.notification(f)
	case string(f.id) == "null":
		p.complaint(f.fault)
	default:
		p.answer(f)
	}
	return nil
}

func (p *peer) remove(rawID []byte) *call {
	id, err := strconv.ParseInt(string(rawID), 10, 64)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pending[id]
	delete(p.pending, id)
	return c
}

func (p *peer) answer(f *frame) {
	c := p.remove(f.id)
	if c == nil {
		return
	}
	if f.fault == nil {
		c.settle(f.result, nil)
		return
	}
	failure, err := errorFromWire(f.fault)
	if err != nil || f.result != nil {
		failure = localError(CodeInternal, "", "the sidecar's answer has no proper error object", err, nil)
	}
	c.settle(nil, failure)
}

// complaint is an answer with id null: the other side could not take a line. If it could read the id of one of our
// requests in it, that request has failed.
func (p *peer) complaint(raw []byte) {
	failure, err := errorFromWire(raw)
	if err != nil || jsonscan.Kind(failure.Data) != '{' {
		return
	}
	var rawID []byte
	_ = jsonscan.Object(failure.Data, func(key string, value []byte) error {
		if key == "id" {
			rawID = value
		}
		return nil
	}) // data was valid JSON with the frame
	if c := p.remove(rawID); c != nil {
		c.settle(nil, failure)
	}
}

// fault answers a bad line. If it was an answer to one of our requests, that request has failed, and its id is not
// sent back: in the other direction it would name somebody else's request.
func (p *peer) fault(fault *frameFault) {
	if fault.answer && fault.rawID != nil {
		if c := p.remove(fault.rawID); c != nil {
			c.settle(nil, fault.wire())
		}
		// Sent back it would name a request of the other direction, whether or not the call is still open.
		fault.rawID = nil
	}
	p.send(errorFrame([]byte("null"), fault.wire()))
}

// send queues a line that nobody waits for; when the pipe is broken, its reader finds out.
func (p *peer) send(line []byte) {
	_, _ = p.writer.send(line)
}

func (p *peer) notification(f *frame) {
	switch f.method {
	case notificationCancelled:
		p.cancelInbound(f.params)
	case notificationProgress:
		p.progress(f.params)
	default:
		if p.notify != nil && (f.params == nil || jsonscan.Kind(f.params) == '{') {
			p.notify(f.method, f.params)
		}
	}
}

func (p *peer) progress(raw []byte) {
	var note progressParams
	if raw == nil || json.Unmarshal(raw, &note) != nil {
		return
	}
	id, err := strconv.ParseInt(string(note.RequestID), 10, 64)
	if err != nil {
		return
	}
	p.mu.Lock()
	c := p.pending[id]
	p.mu.Unlock()
	if c == nil {
		return
	}
	params := &mcp.ProgressNotificationParams{ProgressToken: id, Progress: note.Progress, Message: note.Message}
	if note.Total != nil {
		params.Total = *note.Total
	}
	c.progress(params)
}

func (p *peer) cancelInbound(raw []byte) {
	var note cancelledParams
	if raw == nil || json.Unmarshal(raw, &note) != nil || len(note.RequestID) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if asked := p.inbound[idKey(note.RequestID)]; asked != nil {
		asked.cancel()
	}
}
