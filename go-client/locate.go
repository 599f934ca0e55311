package sidecar

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// programName is looked for in PATH last.
const programName = "mcp-sidecar"

// Variables that name the program, in the order in which they are asked.
const (
	envCommand = "MCP_SIDECAR_COMMAND"  // shell words
	envPython  = "FASTMCP_PYTHON_PATH"  // interpreter
	envWrapper = "FASTMCP_WRAPPER_PATH" // script for it; without it: -m sidecar
)

const searchOrder = "looked for Options.Command, " + envCommand + " (shell words), " + envPython + " (with " +
	envWrapper + ", else -m sidecar), and " + programName + " in PATH"

// locate returns the command of the sidecar.
func locate(command []string) ([]string, error) {
	if len(command) > 0 {
		return command, nil
	}
	if words := os.Getenv(envCommand); strings.TrimSpace(words) != "" {
		split, err := shellWords(words)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", envCommand, err)
		}
		return split, nil
	}
	if python := os.Getenv(envPython); python != "" {
		if script := os.Getenv(envWrapper); script != "" {
			return []string{python, script}, nil
		}
		return []string{python, "-m", "sidecar"}, nil
	}
	found, err := exec.LookPath(programName)
	if err != nil {
		return nil, fmt.Errorf("the sidecar's program was not found: %s", searchOrder)
	}
	return []string{found}, nil
}

// shellWords splits as a POSIX shell does, quotes and backslashes only: nothing is expanded.
func shellWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	open, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == '\'' && c != '\'':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i >= len(text) {
				return nil, errors.New("a backslash at the end")
			}
			if quote == '"' && !strings.ContainsRune("\"\\$`", rune(text[i])) {
				word.WriteByte('\\')
			}
			word.WriteByte(text[i])
			open = true
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if open {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, errors.New("no words")
	}
	return words, nil
}
