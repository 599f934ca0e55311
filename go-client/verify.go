package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Checksum returns the SHA-256, in lower-case hex, of a file, or of a folder with everything in it: names, contents
// and the targets of links. It is what Options.Checksums compares.
func Checksum(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return fileChecksum(path)
	}
	whole := sha256.New()
	err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(path, name)
		if err != nil {
			return err
		}
		var sum string
		switch entry.Type() {
		case fs.ModeSymlink:
			sum, err = os.Readlink(name)
		case 0:
			sum, err = fileChecksum(name)
		default:
			err = fmt.Errorf("%s is neither a file nor a folder", name)
		}
		// NUL is in no name, so no two trees give the same text.
		fmt.Fprintf(whole, "%s\x00%s\x00%s\x00", filepath.ToSlash(relative), entry.Type(), sum)
		return err
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(whole.Sum(nil)), nil
}

func fileChecksum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// errTampered is the cause of a StartFailed whose files are not those that the host knows.
var errTampered = errors.New("its checksum differs from that of Options.Checksums")

func verify(checksums map[string]string) error {
	for _, path := range slices.Sorted(maps.Keys(checksums)) {
		sum, err := Checksum(path)
		if err != nil {
			return err
		}
		if !strings.EqualFold(sum, checksums[path]) {
			return fmt.Errorf("%s: %w", path, errTampered)
		}
	}
	return nil
}
