// Command bench is the Go half of the workbench: cheap MCP servers, and drivers of the clients that are compared.
//
//	bench stdio [-modern]       an MCP server on stdin and stdout
//	bench http -ca FILE         MCP servers over HTTP and HTTPS; prints both ports, writes the certificate to FILE
//	bench drive ours|sdk        drives a client; commands on stdin, one JSON object a line, answers on stdout
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what: stdio, http, or drive")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	switch args[0] {
	case "stdio":
		modern := flags.Bool("modern", false, "speak 2026-07-28 instead of the handshake")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serveStdio(os.Stdin, os.Stdout, *modern)
	case "http":
		ca := flags.String("ca", "", "the file to write the certificate to")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serveHTTP(*ca)
	case "drive":
		if len(args) != 2 {
			return fmt.Errorf("say which client: ours or sdk")
		}
		return drive(args[1], os.Stdin, os.Stdout)
	}
	return fmt.Errorf("unknown command %q", args[0])
}
