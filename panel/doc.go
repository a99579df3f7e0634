// Package panel is what people see: server-rendered pages over package report, live
// by server-sent events, and a login in front of them.
//
// Pages are complete without scripts. With scripts, boxes refresh by themselves: the
// service renders each box with the same template that the page used and sends what
// changed over one event stream per page (live.go), so that formatting, units and
// reasons have one home. When the stream falls silent, the page says since when its
// numbers are old and keeps them, dimmed, until the service is back.
//
// Nothing on a page comes from another origin, no script or style is inline, and the
// content security policy holds it so. Every route and its protection is in routes.go.
package panel
