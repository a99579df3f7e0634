package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vigil/config"
	"vigil/media"
)

// TestProducts keeps the words that the configuration allows and the collectors that
// exist in step: config may not import media.
func TestProducts(t *testing.T) {
	t.Parallel()
	file := "[service]\nurl = \"http://a\"\ntoken_file = \"/t\"\n[[server]]\nname = \"a\"\nurl = \"http://b\"\nproduct = %q\n"
	for _, product := range media.Products() {
		if _, _, err := config.LoadAgent(config.Source{Data: fmt.Appendf(nil, file, product), Host: "h"}); err != nil {
			t.Errorf("there is a collector for %s, and the configuration refuses it: %v", product, err)
		}
	}
	_, _, err := config.LoadAgent(config.Source{Data: fmt.Appendf(nil, file, "none"), Host: "h"})
	if err == nil {
		t.Fatal("the configuration takes any product")
	}
	_, allowed, _ := strings.Cut(err.Error(), "allowed: ")
	allowed, _, _ = strings.Cut(allowed, "\n")
	for _, product := range strings.Split(allowed, ", ") {
		if !slices.Contains(media.Products(), product) {
			t.Errorf("the configuration allows %q, and there is no collector for it", product)
		}
	}
}
