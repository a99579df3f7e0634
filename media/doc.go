// Package media reads media servers: one collector per product turns what the server
// says into a fleet.Reading, and the Tracker turns successive readings into snapshots.
package media
