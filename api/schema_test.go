package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// schema is the part of JSON Schema that openapi.json uses. Decoding refuses other
// keywords, so that nothing in the description is decoration that no test enforces.
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 types              `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Enum                 []any              `json:"enum"`
	AnyOf                []*schema          `json:"anyOf"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
	MaxLength            *int               `json:"maxLength"`
	Default              any                `json:"default"`
	Description          string             `json:"description"`
}

type types []string

func (t *types) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(t))
	}
	var one string
	err := json.Unmarshal(data, &one)
	*t = types{one}
	return err
}

type parameter struct {
	Ref         string  `json:"$ref"`
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Required    bool    `json:"required"`
	Description string  `json:"description"`
	Schema      *schema `json:"schema"`
}

type content struct {
	Description string `json:"description"`
	Ref         string `json:"$ref"`
	Content     map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

type operation struct {
	OperationID string             `json:"operationId"`
	Summary     string             `json:"summary"`
	Description string             `json:"description"`
	Parameters  []parameter        `json:"parameters"`
	Responses   map[string]content `json:"responses"`
}

type document struct {
	OpenAPI    string                          `json:"openapi"`
	Info       map[string]any                  `json:"info"`
	Security   []map[string][]string           `json:"security"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		SecuritySchemes map[string]map[string]string `json:"securitySchemes"`
		Parameters      map[string]parameter         `json:"parameters"`
		Responses       map[string]content           `json:"responses"`
		Schemas         map[string]*schema           `json:"schemas"`
	} `json:"components"`
}

func readDocument(data []byte) (*document, error) {
	var d document
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return &d, dec.Decode(&d)
}

func (d *document) parameter(p parameter) parameter {
	if p.Ref != "" {
		return d.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]
	}
	return p
}

// check returns what is wrong with a value, each with the path to it.
func (d *document) check(path string, s *schema, v any) []string {
	if s == nil {
		return []string{path + ": nothing describes it"}
	}
	if s.Ref != "" {
		to, ok := d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		if !ok {
			return []string{path + ": " + s.Ref + " does not exist"}
		}
		return d.check(path, to, v)
	}
	if len(s.AnyOf) > 0 {
		var all []string
		for _, each := range s.AnyOf {
			faults := d.check(path, each, v)
			if len(faults) == 0 {
				return nil
			}
			all = append(all, faults...)
		}
		return all
	}
	var faults []string
	if len(s.Type) > 0 && !slices.ContainsFunc(s.Type, func(t string) bool { return hasType(v, t) }) {
		return []string{fmt.Sprintf("%s: %v is not %v", path, v, s.Type)}
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		faults = append(faults, fmt.Sprintf("%s: %v is not one of %v", path, v, s.Enum))
	}
	switch v := v.(type) {
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			faults = append(faults, fmt.Sprintf("%s: %v is out of bounds", path, v))
		}
	case []any:
		for i, item := range v {
			faults = append(faults, d.check(fmt.Sprintf("%s[%d]", path, i), s.Items, item)...)
		}
	case map[string]any:
		faults = append(faults, d.checkObject(path, s, v)...)
	}
	return faults
}

func (d *document) checkObject(path string, s *schema, v map[string]any) []string {
	var faults []string
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			faults = append(faults, path+"."+name+": is missing")
		}
	}
	for name, field := range v {
		described, ok := s.Properties[name]
		switch {
		case ok:
			faults = append(faults, d.check(path+"."+name, described, field)...)
		case s.AdditionalProperties != nil && !*s.AdditionalProperties:
			faults = append(faults, path+"."+name+": is not described")
		}
	}
	return faults
}

func hasType(v any, t string) bool {
	switch v := v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case string:
		return t == "string"
	case float64:
		return t == "number" || t == "integer" && v == math.Trunc(v)
	case []any:
		return t == "array"
	case map[string]any:
		return t == "object"
	}
	return false
}
