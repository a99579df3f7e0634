-- The tables of the database file. None has a key: rows are only ever appended, and
-- what is newest wins. Foreign text is kept as bytes (BLOB), because servers name streams
-- in any encoding.

CREATE TABLE meta (
    version INTEGER NOT NULL -- of this layout
);

-- Who is behind an id.
CREATE TABLE server_dim (
    server_id UBIGINT NOT NULL,
    server    BLOB NOT NULL,
    first_ms  BIGINT NOT NULL -- when it was first heard of; the last time is in server_seen
);
CREATE TABLE stream_dim (
    stream_id UBIGINT NOT NULL,
    server_id UBIGINT NOT NULL,
    vhost     BLOB NOT NULL,
    app       BLOB NOT NULL,
    instance  BLOB NOT NULL,
    name      BLOB NOT NULL
);
-- One row per change of what describes a stream or a server; the newest one is true.
CREATE TABLE stream_info (
    stream_id       UBIGINT NOT NULL,
    ts_ms           BIGINT NOT NULL,
    online_since_ms BIGINT,
    incarnation     BLOB,
    publishers      BIGINT,
    publisher_ip    BLOB,
    video_codec     BLOB,
    video_profile   BLOB,
    width_px        BIGINT,
    height_px       BIGINT,
    fps_milli       BIGINT,
    audio_codec     BLOB,
    audio_profile   BLOB,
    channels        BIGINT,
    sample_rate_hz  BIGINT,
    declared_bps    BIGINT
);
CREATE TABLE server_info (
    server_id  UBIGINT NOT NULL,
    ts_ms      BIGINT NOT NULL,
    agent      BLOB NOT NULL,
    product    BLOB,
    version    BLOB,
    collector  BLOB,
    verified   BLOB,
    boot_id    BLOB,
    started_ms BIGINT,
    workers    BIGINT,
    conn_limit BIGINT,
    detail     BLOB
);
-- The newest interval of a server that is in sealed rows.
CREATE TABLE server_seen (
    server_id UBIGINT NOT NULL,
    last_ms   BIGINT NOT NULL
);

-- Exactly once: where each shard of the journal stands, and which packets are counted.
-- Of each shard and of each agent and epoch the row of the newest batch is true.
CREATE TABLE journal_position (
    batch BIGINT NOT NULL,
    shard VARCHAR NOT NULL,
    seq   UBIGINT NOT NULL
);
CREATE TABLE ledger (
    batch BIGINT NOT NULL,
    agent BLOB NOT NULL,
    epoch UBIGINT NOT NULL,
    high  UBIGINT NOT NULL,
    ahead BLOB NOT NULL, -- pairs of unsigned varints: distance from the last one, length
    given_up BLOB NOT NULL -- of those the ones that were given up, as pairs from 0 on
);
-- Packets that were given up. A row that is withdrawn says that these numbers arrived after
-- all; it counts against every other row of its agent and epoch.
CREATE TABLE agent_gap (
    agent       BLOB NOT NULL,
    epoch       UBIGINT NOT NULL,
    first_seq   UBIGINT NOT NULL,
    last_seq    UBIGINT NOT NULL,
    from_ms     BIGINT,
    to_ms       BIGINT,
    reason      BLOB NOT NULL,
    received_ms BIGINT NOT NULL,
    withdrawn   BOOLEAN NOT NULL
);

-- The Parquet files that are part of the store. A file without a row is rubbish.
CREATE TABLE parquet_file (
    name   VARCHAR NOT NULL,
    kind   VARCHAR NOT NULL, -- stream, server, packet, event, session
    tier   VARCHAR NOT NULL, -- raw, minute, quarter, day
    level  UTINYINT NOT NULL, -- 0: as sealed, 1: merged by hour, 2: merged by day
    rolled BOOLEAN NOT NULL, -- its rows are in the next coarser tier too
    min_ms BIGINT NOT NULL,
    max_ms BIGINT NOT NULL,
    min_id UBIGINT NOT NULL,
    max_id UBIGINT NOT NULL,
    rows   BIGINT NOT NULL,
    bytes  BIGINT NOT NULL
);
