package duckdb

import (
	"errors"
	"fmt"
	"unsafe"

	driver "github.com/duckdb/duckdb-go/v2"
	"github.com/duckdb/duckdb-go/v2/mapping"

	"vigil/fleet"
)

// A rawConn is a connection below database/sql: the writer's, because filling the
// engine's column vectors directly costs a fifth of appending rows of interface values.
// Not safe for concurrent use.
type rawConn struct {
	db   mapping.Database
	conn mapping.Connection
}

// openRaw makes a second handle of a database that is open in this process.
func openRaw(path string) (*rawConn, error) {
	var config mapping.Config
	if mapping.CreateConfig(&config) == mapping.StateError {
		return nil, errors.New("create engine configuration")
	}
	defer mapping.DestroyConfig(&config)
	// Handles of one database must agree in their configuration; this is what the
	// driver sets for its own.
	if mapping.SetConfig(config, "duckdb_api", "go") == mapping.StateError {
		return nil, errors.New("set engine configuration")
	}
	c := &rawConn{}
	var message string
	if mapping.GetOrCreateFromCache(driver.GetInstanceCache(), path, &c.db, config, &message) == mapping.StateError {
		mapping.Close(&c.db)
		return nil, fmt.Errorf("open second handle: %s", message)
	}
	if mapping.Connect(c.db, &c.conn) == mapping.StateError {
		mapping.Close(&c.db)
		return nil, errors.New("connect to engine")
	}
	return c, nil
}

func (c *rawConn) close() {
	mapping.Disconnect(&c.conn)
	mapping.Close(&c.db)
}

func (c *rawConn) exec(query string) error {
	var result mapping.Result
	state := mapping.Query(c.conn, query, &result)
	defer mapping.DestroyResult(&result)
	if state == mapping.StateError {
		return errors.New(mapping.ResultError(&result))
	}
	return nil
}

// An appender fills one table inside the transaction of its connection. Usage: set
// every column of a row, then next. Columns are addressed by their place in the table.
type appender struct {
	app      mapping.Appender
	types    []mapping.LogicalType
	chunk    mapping.DataChunk
	columns  []vector
	row      int
	rows     int64
	capacity int
}

type vector struct {
	vec   mapping.Vector
	data  unsafe.Pointer
	valid unsafe.Pointer // one bit per row, 1: not NULL
}

func (t columnType) logical() mapping.LogicalType {
	types := [...]mapping.Type{
		mapping.TypeBoolean, mapping.TypeUTinyInt, mapping.TypeUSmallInt, mapping.TypeInteger,
		mapping.TypeBigInt, mapping.TypeUBigInt, mapping.TypeBlob, mapping.TypeVarchar,
	}
	return mapping.CreateLogicalType(types[t])
}

func newAppender(c *rawConn, table string, columns []column) (*appender, error) {
	a := &appender{capacity: int(mapping.VectorSize()), columns: make([]vector, len(columns))}
	if mapping.AppenderCreateExt(c.conn, "", "", table, &a.app) == mapping.StateError {
		message := mapping.AppenderError(a.app)
		mapping.AppenderDestroy(&a.app)
		return nil, fmt.Errorf("append to %s: %s", table, message)
	}
	if n := int(mapping.AppenderColumnCount(a.app)); n != len(columns) {
		mapping.AppenderDestroy(&a.app)
		return nil, fmt.Errorf("%w: table %s has %d columns instead of %d", ErrDamaged, table, n, len(columns))
	}
	for _, column := range columns {
		a.types = append(a.types, column.typ.logical())
	}
	a.chunk = mapping.CreateDataChunk(a.types)
	a.bind()
	return a, nil
}

// bind finds the memory of the vectors of an empty chunk.
func (a *appender) bind() {
	for i := range a.columns {
		v := &a.columns[i]
		v.vec = mapping.DataChunkGetVector(a.chunk, mapping.IdxT(i))
		v.data = mapping.VectorGetData(v.vec)
		mapping.VectorEnsureValidityWritable(v.vec)
		v.valid = mapping.VectorGetValidity(v.vec)
	}
	a.row = 0
}

func setAt[T any](a *appender, col int, value T) {
	*(*T)(unsafe.Add(a.columns[col].data, uintptr(a.row)*unsafe.Sizeof(value))) = value
}

func (a *appender) u64(col int, value uint64) { setAt(a, col, value) }
func (a *appender) i64(col int, value int64)  { setAt(a, col, value) }
func (a *appender) i32(col int, value int32)  { setAt(a, col, value) }
func (a *appender) u16(col int, value uint16) { setAt(a, col, value) }
func (a *appender) u8(col int, value uint8)   { setAt(a, col, value) }
func (a *appender) bool(col int, value bool)  { setAt(a, col, value) }

func (a *appender) null(col int) {
	word := (*uint64)(unsafe.Add(a.columns[col].valid, a.row/64*8))
	*word &^= 1 << (a.row % 64)
}

// int writes a number or, when it is unknown, NULL.
func (a *appender) int(col int, n fleet.Int) {
	if value, known := n.Get(); known {
		setAt(a, col, value)
	} else {
		a.null(col)
	}
}

func (a *appender) text(col int, s string) {
	var bytes []byte
	if s != "" {
		bytes = unsafe.Slice(unsafe.StringData(s), len(s))
	}
	a.blob(col, bytes)
}

func (a *appender) blob(col int, value []byte) {
	if len(value) == 0 {
		value = []byte{0}[:0]
	}
	mapping.VectorAssignStringElementLen(a.columns[col].vec, mapping.IdxT(a.row), value)
}

// next ends a row.
func (a *appender) next() error {
	a.row++
	a.rows++
	if a.row < a.capacity {
		return nil
	}
	return a.push()
}

func (a *appender) push() error {
	if a.row == 0 {
		return nil
	}
	mapping.DataChunkSetSize(a.chunk, mapping.IdxT(a.row))
	if mapping.AppendDataChunk(a.app, a.chunk) == mapping.StateError {
		return errors.New(mapping.AppenderError(a.app))
	}
	mapping.DataChunkReset(a.chunk)
	a.bind()
	return nil
}

// finish hands everything to the transaction.
func (a *appender) finish() error {
	if err := a.push(); err != nil {
		return err
	}
	if mapping.AppenderFlush(a.app) == mapping.StateError {
		return errors.New(mapping.AppenderError(a.app))
	}
	return nil
}

// close frees the appender. Rows that were not finished are given up.
func (a *appender) close() {
	mapping.AppenderClear(a.app)
	mapping.AppenderDestroy(&a.app)
	mapping.DestroyDataChunk(&a.chunk)
	for i := range a.types {
		mapping.DestroyLogicalType(&a.types[i])
	}
}
