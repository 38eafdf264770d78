-- The hub's store. Subjects are pseudonyms, payloads are sealed, times are milliseconds since 1970.
CREATE TABLE event (
  municipality TEXT NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, digest BLOB NOT NULL,
  type TEXT NOT NULL, subject TEXT NOT NULL, version INTEGER NOT NULL, file TEXT NOT NULL,
  line INTEGER NOT NULL, published_ms INTEGER NOT NULL, traceparent TEXT NOT NULL,
  stream INTEGER, position INTEGER,
  -- Rows stand in the order of publishing; only the short keys are scattered.
  PRIMARY KEY (municipality, id)
);
CREATE INDEX event_subject ON event (municipality, subject, version);
CREATE TABLE version (
  municipality TEXT NOT NULL, source TEXT NOT NULL, subject TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (municipality, source, subject)
) WITHOUT ROWID;
CREATE TABLE held (
  number INTEGER PRIMARY KEY AUTOINCREMENT, municipality TEXT NOT NULL, source TEXT NOT NULL,
  key TEXT NOT NULL, state INTEGER NOT NULL, rule TEXT NOT NULL, file TEXT NOT NULL,
  line INTEGER NOT NULL, item TEXT NOT NULL, message TEXT NOT NULL, rows INTEGER NOT NULL,
  held_ms INTEGER NOT NULL, kind INTEGER NOT NULL, key_id TEXT NOT NULL, content BLOB NOT NULL,
  corrected_by TEXT NOT NULL DEFAULT '',
  UNIQUE (municipality, source, key, file, line)
);
CREATE INDEX held_state ON held (municipality, state, number);
CREATE TABLE held_subject (
  number INTEGER NOT NULL, ordinal INTEGER NOT NULL, municipality TEXT NOT NULL,
  source TEXT NOT NULL, subject TEXT NOT NULL, version INTEGER NOT NULL, open INTEGER NOT NULL,
  PRIMARY KEY (number, ordinal)
) WITHOUT ROWID;
CREATE INDEX held_subject_open ON held_subject (municipality, source, subject) WHERE open = 1;
CREATE TABLE held_event (
  municipality TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (municipality, id, number)
) WITHOUT ROWID;
CREATE INDEX held_event_number ON held_event (number, ordinal);
CREATE TABLE capture (
  municipality TEXT NOT NULL, source TEXT NOT NULL, epoch INTEGER NOT NULL, product TEXT NOT NULL,
  cursor TEXT,
  PRIMARY KEY (municipality, source)
) WITHOUT ROWID;
CREATE TABLE snapshot (
  number INTEGER PRIMARY KEY AUTOINCREMENT, municipality TEXT NOT NULL, source TEXT NOT NULL,
  snapshot_id TEXT NOT NULL, bulk_start INTEGER NOT NULL, bulk_end INTEGER,
  live_mark INTEGER NOT NULL,
  UNIQUE (municipality, source, snapshot_id)
);
CREATE TABLE protection (
  municipality TEXT NOT NULL, subject TEXT NOT NULL, measure TEXT NOT NULL,
  version INTEGER NOT NULL, active INTEGER NOT NULL,
  PRIMARY KEY (municipality, subject, measure)
) WITHOUT ROWID;
CREATE TABLE tail (
  municipality TEXT NOT NULL, stream INTEGER NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (municipality, stream)
) WITHOUT ROWID;
CREATE TABLE kept (
  municipality TEXT NOT NULL, stream INTEGER NOT NULL, first INTEGER NOT NULL,
  PRIMARY KEY (municipality, stream)
) WITHOUT ROWID;

CREATE TABLE owner (
  municipality TEXT PRIMARY KEY, epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE subscription (
  id TEXT PRIMARY KEY, municipality TEXT NOT NULL, system TEXT NOT NULL,
  live_position INTEGER NOT NULL, live_sequence INTEGER NOT NULL,
  bulk_position INTEGER NOT NULL, bulk_sequence INTEGER NOT NULL,
  filled INTEGER NOT NULL, until_live INTEGER, until_bulk INTEGER, closed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE binding (
  subscription TEXT NOT NULL, epoch INTEGER NOT NULL, product TEXT NOT NULL,
  state INTEGER NOT NULL, cut_live INTEGER, cut_bulk INTEGER, paused_by INTEGER, paused TEXT,
  settings TEXT NOT NULL,
  PRIMARY KEY (subscription, epoch)
) WITHOUT ROWID;
CREATE TABLE tally (
  subscription TEXT NOT NULL, outcome INTEGER NOT NULL, events INTEGER NOT NULL,
  PRIMARY KEY (subscription, outcome)
) WITHOUT ROWID;
CREATE TABLE ahead (
  subscription TEXT NOT NULL, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
  member INTEGER NOT NULL,
  PRIMARY KEY (subscription, stream, sequence, member)
) WITHOUT ROWID;
CREATE TABLE attempt (
  subscription TEXT NOT NULL, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
  member INTEGER NOT NULL, attempts INTEGER NOT NULL,
  PRIMARY KEY (subscription, stream, sequence, member)
) WITHOUT ROWID;
CREATE TABLE run (
  subscription TEXT NOT NULL, id TEXT NOT NULL, ordinal INTEGER NOT NULL, stream INTEGER NOT NULL,
  sequence INTEGER NOT NULL, member INTEGER NOT NULL,
  PRIMARY KEY (subscription, id, ordinal)
) WITHOUT ROWID;
CREATE TABLE parked (
  subscription TEXT NOT NULL, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
  member INTEGER NOT NULL, state INTEGER NOT NULL, reason TEXT NOT NULL, field TEXT NOT NULL,
  message TEXT NOT NULL, attempts INTEGER NOT NULL, at_ms INTEGER NOT NULL, due_ms INTEGER,
  revision INTEGER NOT NULL DEFAULT 1,
  position INTEGER NOT NULL, event_ids TEXT NOT NULL, events INTEGER NOT NULL,
  key_id TEXT NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (subscription, stream, sequence, member)
) WITHOUT ROWID;
-- Counts and alarms are answered by it alone: the rows carry content.
CREATE INDEX parked_state
  ON parked (subscription, state, stream, sequence, member, events, at_ms, reason);
CREATE INDEX parked_reason ON parked (subscription, reason, stream, sequence, member);
CREATE INDEX parked_due ON parked (subscription, due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE parked_subject (
  subscription TEXT NOT NULL, subject TEXT NOT NULL, stream INTEGER NOT NULL,
  sequence INTEGER NOT NULL, member INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  PRIMARY KEY (subscription, subject, stream, sequence, member)
) WITHOUT ROWID;
CREATE INDEX parked_subject_unit
  ON parked_subject (subscription, stream, sequence, member, ordinal);
CREATE TABLE history (
  number INTEGER PRIMARY KEY, municipality TEXT NOT NULL, event_id TEXT NOT NULL,
  subscription TEXT NOT NULL, product TEXT NOT NULL, stream INTEGER NOT NULL,
  sequence INTEGER NOT NULL, member INTEGER NOT NULL, attempt INTEGER NOT NULL,
  outcome INTEGER NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL
);
CREATE INDEX history_event ON history (municipality, event_id);
CREATE INDEX history_unit ON history (subscription, stream, sequence);
CREATE TABLE granted (
  municipality TEXT NOT NULL, live_position INTEGER NOT NULL, bulk_position INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (municipality, live_position, bulk_position)
) WITHOUT ROWID;
CREATE TABLE act (
  number INTEGER PRIMARY KEY AUTOINCREMENT, municipality TEXT NOT NULL, id TEXT NOT NULL,
  at_ms INTEGER NOT NULL, operator TEXT NOT NULL, reason TEXT NOT NULL, kind INTEGER NOT NULL,
  subscription TEXT NOT NULL, target TEXT NOT NULL, units INTEGER NOT NULL,
  subjects INTEGER NOT NULL, note TEXT NOT NULL,
  UNIQUE (municipality, id)
);
CREATE INDEX act_town ON act (municipality, number);
CREATE TABLE act_unit (
  subscription TEXT NOT NULL, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
  member INTEGER NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (subscription, stream, sequence, member, number)
) WITHOUT ROWID;
CREATE TABLE replay (
  id TEXT PRIMARY KEY, subscription TEXT NOT NULL, municipality TEXT NOT NULL,
  binding_epoch INTEGER NOT NULL, stream INTEGER, from_position INTEGER, to_position INTEGER,
  from_ms INTEGER, to_ms INTEGER, subjects TEXT NOT NULL, types TEXT NOT NULL,
  repair INTEGER NOT NULL, operator TEXT NOT NULL, reason TEXT NOT NULL,
  started_ms INTEGER NOT NULL, units INTEGER NOT NULL, subject_count INTEGER NOT NULL,
  state INTEGER NOT NULL, note TEXT NOT NULL, ended_ms INTEGER, at_stream INTEGER NOT NULL,
  at_sequence INTEGER NOT NULL, at_subject TEXT, delivered INTEGER NOT NULL,
  known INTEGER NOT NULL, parked INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX replay_running ON replay (subscription) WHERE state = 1;
CREATE INDEX replay_town ON replay (municipality, id);
CREATE TABLE alarm (
  municipality TEXT NOT NULL, kind INTEGER NOT NULL, subscription TEXT NOT NULL,
  source TEXT NOT NULL, since_ms INTEGER NOT NULL,
  PRIMARY KEY (municipality, kind, subscription, source)
) WITHOUT ROWID;
CREATE TABLE followed (
  municipality TEXT NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, stream INTEGER NOT NULL,
  position INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (municipality, id)
) WITHOUT ROWID;
CREATE TABLE rhythm (
  municipality TEXT NOT NULL, source TEXT NOT NULL, rhythm_ms INTEGER NOT NULL,
  heard_ms INTEGER NOT NULL,
  PRIMARY KEY (municipality, source)
) WITHOUT ROWID;
