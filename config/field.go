package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of single values.
const (
	maxNameBytes = 100
	maxTextBytes = 4096
	maxListItems = 64
)

// field is one key: a leaf, a section or a list of sections.
type field struct {
	key      string // in its section
	goName   string
	fallback string // default, as typed
	limit    string
	oneOf    []string
	kind     string
	required bool
	example  string
	index    int          // in the struct
	typ      reflect.Type // of the value; the element's for a list of sections
	section  bool
	list     bool // of sections
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	listType     = reflect.TypeFor[[]string]()
)

// fieldsOf returns the keys of a section in the order of its struct. overrides are
// defaults that the surrounding section gives: "listen=127.0.0.1:8491".
func fieldsOf(t reflect.Type, overrides string) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key := sf.Tag.Get("toml")
		if key == "-" {
			continue
		}
		f := field{
			key: key, goName: sf.Name, index: i, typ: sf.Type,
			fallback: sf.Tag.Get("default"), limit: sf.Tag.Get("limit"), kind: sf.Tag.Get("kind"),
			required: sf.Tag.Get("required") == "true", example: sf.Tag.Get("example"),
		}
		if words := sf.Tag.Get("one_of"); words != "" {
			f.oneOf = strings.Split(words, "|")
		}
		if value, ok := strings.CutPrefix(overrides, key+"="); ok {
			f.fallback = value
		}
		switch {
		case sf.Type.Kind() == reflect.Struct:
			f.section = true
		case sf.Type.Kind() == reflect.Slice && sf.Type.Elem().Kind() == reflect.Struct:
			f.list, f.typ = true, sf.Type.Elem()
		}
		out = append(out, f)
	}
	return out
}

// textOf turns a value from the TOML reader into the text that parse reads. The error
// says what to write instead.
func (f *field) textOf(value any) (string, error) {
	switch v := value.(type) {
	case string:
		if f.typ.Kind() == reflect.Int {
			return "", errors.New("not a whole number; write it without quotes")
		}
		if f.typ == listType {
			return "", errors.New(`not a list; write ["one", "two"]`)
		}
		return v, nil
	case int64:
		switch {
		case f.typ.Kind() == reflect.Int || f.kind == "size":
			return strconv.FormatInt(v, 10), nil
		case f.typ == durationType:
			return "", errDuration
		}
	case []any:
		if f.typ == listType {
			return joinList(v)
		}
	}
	switch {
	case f.typ == durationType:
		return "", errDuration
	case f.kind == "size":
		return "", errSize
	case f.typ.Kind() == reflect.Int:
		return "", errors.New("not a whole number")
	case f.typ == listType:
		return "", errors.New(`not a list of texts; write ["one", "two"]`)
	}
	return "", errors.New("not a text; write it in quotes")
}

func joinList(items []any) (string, error) {
	words := make([]string, len(items))
	for i, item := range items {
		word, ok := item.(string)
		if !ok || strings.ContainsRune(word, ',') || word == "" {
			return "", errors.New(`not a list of texts; write ["one", "two"]`)
		}
		words[i] = word
	}
	return strings.Join(words, ","), nil
}

// parse reads text and puts it into v. On an error v keeps what it had.
func (f *field) parse(text string, v reflect.Value) error {
	if len(text) > maxTextBytes {
		return fmt.Errorf("longer than %d bytes", maxTextBytes)
	}
	switch {
	case f.typ == durationType:
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		return f.setNumber(int64(d), v, func(s string) (int64, error) {
			d, err := parseDuration(s)
			return int64(d), err
		})
	case f.kind == "size":
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		return f.setNumber(n, v, parseSize)
	case f.typ.Kind() == reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return errors.New("not a whole number")
		}
		return f.setNumber(n, v, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 32) })
	case f.typ == listType:
		return f.setList(text, v)
	}
	if err := f.checkText(text); err != nil {
		return err
	}
	v.SetString(text)
	return nil
}

func (f *field) setNumber(n int64, v reflect.Value, parse func(string) (int64, error)) error {
	if low, high, ok := strings.Cut(f.limit, ".."); ok {
		least, err1 := parse(low)
		most, err2 := parse(high)
		if err1 != nil || err2 != nil {
			panic("config: limit tag of " + f.goName + " cannot be read")
		}
		if n < least || n > most {
			return fmt.Errorf("must be between %s and %s", low, high)
		}
	}
	v.SetInt(n)
	return nil
}

func (f *field) setList(text string, v reflect.Value) error {
	if text == "" {
		v.SetZero()
		return nil
	}
	words := strings.Split(text, ",")
	if len(words) > maxListItems {
		return fmt.Errorf("more than %d items", maxListItems)
	}
	for i, word := range words {
		words[i] = strings.TrimSpace(word)
		if err := f.checkText(words[i]); err != nil {
			return fmt.Errorf("%q: %w", words[i], err)
		}
		if slices.Contains(words[:i], words[i]) {
			return fmt.Errorf("%q is there twice", words[i])
		}
	}
	v.Set(reflect.ValueOf(words))
	return nil
}

// checkText checks a text against the words and the kind of the field. Empty texts
// pass when the key may be left out.
func (f *field) checkText(text string) error {
	if text == "" {
		if f.required || f.fallback != "" && f.kind != "listen" && len(f.oneOf) == 0 {
			return errors.New("must not be empty")
		}
		if f.typ == listType {
			return errors.New("has an empty item")
		}
		if len(f.oneOf) > 0 {
			return errors.New("must not be empty; allowed: " + strings.Join(f.oneOf, ", "))
		}
		return nil
	}
	if !utf8.ValidString(text) {
		return errors.New("must be UTF-8")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("must not have control characters")
	}
	if len(f.oneOf) > 0 && !slices.Contains(f.oneOf, text) {
		return fmt.Errorf("allowed: %s%s", strings.Join(f.oneOf, ", "), didYouMean(text, f.oneOf))
	}
	switch f.kind {
	case "listen":
		return checkListen(text)
	case "url":
		return checkURL(text)
	case "name":
		return checkName(text, "._-")
	case "node":
		return checkName(text, "_-")
	case "file":
		if !filepath.IsAbs(text) {
			return errors.New("must be an absolute path, one that begins with /")
		}
	case "ip":
		if _, err := netip.ParseAddr(text); err != nil {
			return errors.New("not an IP address, such as 192.0.2.7 or 2001:db8::7")
		}
	case "level":
		return checkLevel(text)
	}
	return nil
}

func checkListen(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("not host:port, such as 127.0.0.1:8400 or :8400")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to %d", port, 1<<16-1)
	} else if n == 0 && host == "" {
		return errors.New("a free port (0) needs a host in front of it")
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("host %q is not an IP address, localhost or empty", host)
		}
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("not an address such as https://stats.example.net")
	}
	if u.User != nil {
		return errors.New("must not carry a user or a password; secrets belong into files of their own")
	}
	if u.Fragment != "" {
		return errors.New("must not have a part after #")
	}
	return nil
}

// checkName takes letters, digits and the given marks. Names become labels of metrics,
// parts of addresses and names of files.
func checkName(text, marks string) error {
	if len(text) > maxNameBytes {
		return fmt.Errorf("longer than %d bytes", maxNameBytes)
	}
	for _, r := range text {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(marks, r)
		if !ok {
			return fmt.Errorf("may only have letters, digits and the marks %s", strings.Join(strings.Split(marks, ""), " "))
		}
	}
	return nil
}

// checkLevel knows the shape of a log level; the log package has the last word.
func checkLevel(text string) error {
	levels := []string{"debug", "info", "warn", "error"}
	for i, part := range strings.Split(text, ",") {
		pkg, name, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			pkg, name = "", pkg
		}
		if !slices.Contains(levels, name) {
			return fmt.Errorf("allowed: %s%s", strings.Join(levels, ", "), didYouMean(name, levels))
		}
		if ok == (pkg == "") || i > 0 && pkg == "" {
			return errors.New(`write levels of packages behind the general one, such as "info,spool=debug"`)
		}
	}
	return nil
}

// format writes the value as it is typed in TOML.
func (f *field) format(v reflect.Value) string {
	switch {
	case f.typ == durationType:
		return strconv.Quote(formatDuration(time.Duration(v.Int())))
	case f.kind == "size":
		return strconv.Quote(formatSize(v.Int()))
	case f.typ.Kind() == reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case f.typ == listType:
		words := make([]string, v.Len())
		for i := range words {
			words[i] = quote(v.Index(i).String())
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	return quote(v.String())
}

// quote writes a TOML text. Texts have no control characters (checkText), so these
// two escapes are enough.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
