// Package api is the JSON twin of the pages: everything that a page shows can be read
// under /api/v1, with the same numbers, because both ask package report.
//
// Answers are described by openapi.json beside this file, which is also served at
// /api/v1/openapi.json; a test holds the description and the handlers against each
// other in both directions. Unknown numbers are null, never zero; every number has its
// unit in its name. Errors are {"kind", "message", "hint"}.
//
// The package knows nothing of logins: whoever mounts the handler puts them in front.
package api
