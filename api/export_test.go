package api

// Described is what tests need to know of a route.
type Described struct {
	Pattern string
	Params  []string
}

// Routes lists the routes for the test that compares them with the description.
func (a *API) Routes() []Described {
	var out []Described
	for _, r := range a.routes() {
		out = append(out, Described{Pattern: r.pattern, Params: append([]string{"explain"}, r.params...)})
	}
	return out
}

// Description is openapi.json.
func Description() []byte { return description }
