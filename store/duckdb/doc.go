// Package duckdb keeps the analytic store in an embedded DuckDB and immutable Parquet
// files beside it. It is the only package that speaks to DuckDB.
//
// New rows go to hot tables inside the database, in the same transaction as the
// position in the journal and the numbers that make packets count once. Now and then
// the hot rows are sealed: sorted and copied into Parquet files, rolled up into
// minutes, and dropped from the database. ../DESIGN.md draws the picture and lists
// what happens in each crash.
package duckdb
