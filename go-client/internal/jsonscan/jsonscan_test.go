package jsonscan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestValidateIsStricterThanEncodingJSONAndNeverLooser(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	good := []string{
		`{}`, ` [1, -0.5e+3, true,false,null,"a\u00e9\ud83d\ude00\n"] `, deep(MaxDepth), `"é"`, `1e999`, `{"a":{"a":1},"a":2}`,
	}
	bad := []string{
		``, ` `, `{`, `[1,]`, `{"a":1,}`, `{a:1}`, `01`, `+1`, `.5`, `1.`, `1e`, `-`, `NaN`, `-Infinity`, `tru`, `"\x"`, `"\ud800"`,
		`"\udc00\ud800"`, `"\ud800\u0041"`, "\"\xff\"", "\"\n\"", `{} x`, `{"a" 1}`, `[1 2]`, deep(MaxDepth + 1), "\xef\xbb\xbf{}", `"a`, `"\u12"`,
	}
	for _, text := range good {
		if err := Validate([]byte(text)); err != nil {
			t.Errorf("%.50s: %v", text, err)
		}
	}
	for _, text := range bad {
		if err := Validate([]byte(text)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%.50q is accepted: %v", text, err)
		}
	}
}

func TestObjectAndArrayHandOutTheBytesAsTheyStand(t *testing.T) {
	var have []string
	err := Object([]byte(` { "a\"b" : [1, {"x":"]}"}] , "c":1.0,"c" : null } `), func(key string, value []byte) error {
		have = append(have, key+"="+string(value))
		return nil
	})
	if want := `a"b=[1, {"x":"]}"}]|c=1.0|c=null`; err != nil || strings.Join(have, "|") != want {
		t.Errorf("%q %v", have, err)
	}
	have = nil
	err = Array([]byte(`[ "a,\\", 2 ,[[]],{} ]`), func(value []byte) error {
		have = append(have, string(value))
		return nil
	})
	if want := `"a,\\"|2|[[]]|{}`; err != nil || strings.Join(have, "|") != want {
		t.Errorf("%q %v", have, err)
	}
}

func TestValidObjectIsValidateAndObjectInOnePass(t *testing.T) {
	texts := []string{
		` { "a\"b" : [1, {"x":"]}"}] , "c":1.0,"c" : null } `, `{}`, ` { } `, `{"a":1,}`, `{"a":1`, `{"a":1} x`, `{,}`, `{"a" 1}`, `[]`, ``,
		`{"\ud83d\ude00":"0123456789abcdef\\"}`, `{"a":"` + strings.Repeat("x", 100) + "\x1f\"}", "{\"a\":\"\xff\"}", `{"a":"\ud800"}`,
		`{"a":` + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + `}`,
		`{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`,
	}
	for _, text := range texts {
		compareInOnePass(t, []byte(text))
	}
}

func compareInOnePass(t *testing.T, data []byte) {
	t.Helper()
	var once, twice []string
	err := ValidObject(data, func(key string, value []byte) error {
		once = append(once, key+"="+string(value))
		return nil
	})
	want := Validate(data)
	if want == nil {
		want = Object(data, func(key string, value []byte) error {
			twice = append(twice, key+"="+string(value))
			return nil
		})
	}
	if (err == nil) != (want == nil) || err == nil && strings.Join(once, "|") != strings.Join(twice, "|") {
		t.Errorf("%q: %v %q, in two passes %v %q", data, err, once, want, twice)
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"\ud83d\ude00"]}`, `[[[`, "\"\xff", `{"a":1,"a":2}`, `-0.0e-0`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ok := Validate(data) == nil
		if ok && !json.Valid(data) {
			t.Fatalf("accepted what encoding/json refuses: %q", data)
		}
		compareInOnePass(t, data)
		var members int
		err := Object(data, func(_ string, value []byte) error {
			members++
			if ok && !json.Valid(value) {
				t.Fatalf("a value is cut: %q", value)
			}
			return nil
		})
		if ok && Kind(data) == '{' && err != nil {
			t.Fatalf("a valid object is refused: %v", err)
		}
		_ = Array(data, func([]byte) error { return nil }) // must not panic
	})
}
