package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// The path chooses the server: /json/legacy, /json/modern, /stream/legacy, /stream/modern.

// serveHTTP serves until stdin ends. HTTP is written by hand: net/http would cost more than what is measured.
func serveHTTP(caFile string) error {
	debug.SetGCPercent(400)
	certificate, err := certify(caFile)
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secure := tls.NewListener(below, &tls.Config{Certificates: []tls.Certificate{certificate}})
	fmt.Println(plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port)
	go accept(plain)
	go accept(secure)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// certify makes a certificate of its own authority for the loopback and writes it to caFile.
func certify(caFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "bench"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(caFile, text, 0o600)
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go serveConn(conn)
	}
}

func serveConn(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 4<<10)
	for {
		method, path, body, err := readRequest(in)
		if err != nil {
			return
		}
		if _, err := conn.Write(respond(method, path, body)); err != nil {
			return
		}
	}
}

func readRequest(in *bufio.Reader) (method, path string, body []byte, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", "", nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 && !first {
			break
		}
		if first {
			words := strings.SplitN(string(line), " ", 3)
			if len(words) != 3 {
				return "", "", nil, errors.New("no HTTP")
			}
			method, path = words[0], words[1]
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return "", "", nil, err
			}
		}
	}
	body = make([]byte, length)
	_, err = io.ReadFull(in, body)
	return method, path, body, err
}

func respond(method, path string, body []byte) []byte {
	switch method {
	case "DELETE":
		return plainReply("200 OK")
	case "GET":
		return plainReply("405 Method Not Allowed")
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return plainReply("400 Bad Request")
	}
	modern := strings.HasSuffix(path, "/modern")
	if m.Method == "server/discover" && !modern {
		return plainReply("400 Bad Request")
	}
	frame := m.frame(modern)
	if frame == "" {
		return plainReply("202 Accepted")
	}
	session := ""
	if m.Method == "initialize" {
		session = "Mcp-Session-Id: one\r\n"
	}
	if strings.HasPrefix(path, "/stream/") {
		event := "event: message\ndata: " + frame + "\n\n"
		return []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + session + "Transfer-Encoding: chunked\r\n\r\n" +
			strconv.FormatInt(int64(len(event)), 16) + "\r\n" + event + "\r\n0\r\n\r\n")
	}
	return []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + session + "Content-Length: " +
		strconv.Itoa(len(frame)) + "\r\n\r\n" + frame)
}

func plainReply(status string) []byte {
	return []byte("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n")
}
