package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
)

// serveStdio answers each line as it comes; answers to lines that came together are written together.
func serveStdio(in io.Reader, out io.Writer, modern bool) error {
	lines := bufio.NewReaderSize(in, 1<<16)
	answers := bufio.NewWriterSize(out, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		if frame := m.frame(modern); frame != "" {
			if _, err := answers.WriteString(frame + "\n"); err != nil {
				return err
			}
		}
		if lines.Buffered() == 0 {
			if err := answers.Flush(); err != nil {
				return err
			}
		}
	}
}
