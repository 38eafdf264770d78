//! Every limit of the hub, named, with its default (promise P11).
//! Used at all edges and queues of the event path.
//! Must never be repeated as a number elsewhere.
//! Read next: `event.rs`.

use std::time::Duration;

/// Largest gRPC message that the hub decodes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest body of a publish over HTTP, in bytes; with the envelope it still fits a message.
pub const HTTP_BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Time that a client has to send such a body.
pub const HTTP_BODY_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of all bodies over HTTP that are read or wait for an answer, over all clients.
pub const HTTP_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Largest payload of one event, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Most units in one publish request.
pub const PUBLISH_UNITS_MAX: usize = 1_000;
/// Most events in one unit (one 届出 or one mass correction of a household).
pub const UNIT_EVENTS_MAX: usize = 1_000;
/// Longest identifier of the envelope (source, subject, group, file), in characters.
pub const IDENTIFIER_CHARS_MAX: usize = 200;
/// Longest capture cursor, in bytes.
pub const CURSOR_BYTES_MAX: usize = 1_024;
/// Deepest nesting of a payload that the hub walks.
pub const PAYLOAD_DEPTH_MAX: usize = 32;

/// Publish requests that wait for the sequencer of one municipality.
pub const PUBLISH_QUEUE_REQUESTS: usize = 256;
/// Publish requests that are judged or wait, over all municipalities. Twice what a full group
/// commit needs: more of them would make all of them late, and none of them faster.
pub const PUBLISH_CALLS_MAX: usize = 128;
/// Bytes of all publish requests that are judged or wait, over all municipalities.
pub const PUBLISH_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Wait that a publisher is asked for when too much waits already.
pub const OVERLOAD_RETRY: Duration = Duration::from_millis(500);
/// Units that the sequencer commits together.
pub const PUBLISH_BATCH_UNITS: usize = 512;
/// Held units that one accepted unit may release in one step; the rest follow in the next.
pub const HELD_RELEASE_UNITS: usize = 500;

/// Records that one read of the log returns at most.
pub const READ_RECORDS_MAX: usize = 256;
/// Bytes that one read of the log returns at most (one record more is always returned).
pub const READ_BYTES_MAX: usize = 1024 * 1024;

/// Units of one stream that one subscription holds in memory between reading and outcome.
pub const WINDOW_UNITS: usize = 2_048;
/// Free places in the window from which on the log is read again.
pub const READ_ROOM_MIN: usize = 128;
/// Outcomes that one subscription keeps ahead of its cursor before it stops reading on.
pub const AHEAD_UNITS_MAX: usize = 100_000;
/// Units of one subject that ride in one run at most.
pub const RUN_UNITS_MAX: usize = 50;
/// Units of one batch at most, whatever an adapter asks for.
pub const BATCH_UNITS_MAX: usize = 1_000;
/// Percent of a binding's concurrent deliveries that bulk work may take, so that a change always
/// finds a free one.
pub const BULK_SHARE_PERCENT: u32 = 75;
/// Parked units from which on one retry of all takes no further subject.
pub const RETRY_UNITS_MAX: usize = 2_000;
/// Units, or subjects, of one page of a replay: so much is delivered once more after a crash.
pub const REPLAY_PAGE: usize = 256;
/// Subjects, and event types, that one replay can name.
pub const REPLAY_NAMES_MAX: usize = 1_000;
/// Most credits that one adapter can have, and can grant in one message.
pub const CREDITS_MAX: u32 = 10_000;
/// Highest rate that can be set for a binding, in deliveries a second.
pub const PER_SECOND_MAX: u32 = 100_000;
/// Opening windows of one binding, counted by weekday.
pub const OPENING_WINDOWS_MAX: usize = 100;
/// Holidays and closed periods of one binding: those of some years.
pub const DAYS_CLOSED_MAX: usize = 400;
/// Deliveries whose time was over that a stream remembers, to know their late receipts.
pub const LATE_RECEIPTS_MAX: usize = 1_024;
/// Reads of the log after which a runner listens again before it reads on.
pub const READS_PER_STEP: usize = 16;
/// Messages that wait for one subscription's runner.
pub const RUNNER_QUEUE: usize = 1_024;
/// Deliveries that wait for one adapter's stream.
pub const STREAM_QUEUE: usize = 256;

/// First wait before a delivery is tried again.
pub const RETRY_BASE: Duration = Duration::from_millis(200);
/// Longest wait between the quick attempts; jitter at most doubles it.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// Quick attempts: with waits that double up to `RETRY_MAX` they span about three quarters of an
/// hour.
pub const RETRY_QUICK_ATTEMPTS: u32 = 64;
/// Wait between the attempts after the quick ones.
pub const RETRY_SLOW: Duration = Duration::from_secs(30 * 60);
/// Attempts after which a unit becomes a dead letter: four days, so that offices that close over
/// a long weekend are tried again when they open.
pub const RETRY_ATTEMPTS_MAX: u32 = RETRY_QUICK_ATTEMPTS + 192;
/// Longest wait that an adapter can ask for before a delivery is tried again.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A unit that is due later than this is set aside in the store and pins no cursor.
pub const SET_ASIDE_AFTER: Duration = Duration::from_secs(60);
/// Set-aside units that are taken back in one step.
pub const SET_ASIDE_STEP: usize = 64;
/// Time until a set-aside unit is looked at again that could not come back when it was due.
pub const SET_ASIDE_LOOK: Duration = Duration::from_secs(1);
/// Subjects in a row whose deliveries were put off, without any that ended, from which on the
/// receiver counts as down and is only probed.
pub const DOWN_SUBJECTS: usize = 10;
/// Longest wait between two probes of a receiver that is down.
pub const PROBE_MAX: Duration = Duration::from_secs(4);
/// Subjects in a row that get the same permanent refusal, without any that ended, from which on
/// the binding stops instead of parking the town.
pub const SAME_REFUSAL_SUBJECTS: usize = 20;
/// Time without a receipt after which the outcome of a delivery counts as unknown.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Longest such time that an adapter can ask for.
pub const ANSWER_WITHIN_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A stream that is silent for this long is dropped and its deliveries are leased again.
pub const STREAM_LEASE: Duration = Duration::from_secs(15);
/// An adapter whose full stream takes nothing for this long is let go.
pub const STREAM_SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the first message of a stream.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest text of a receipt that is kept, in characters.
pub const RECEIPT_TEXT_CHARS_MAX: usize = 500;

/// Default and largest page of a list call.
pub const PAGE_DEFAULT: usize = 100;
/// Largest page of a list call.
pub const PAGE_MAX: usize = 1_000;

/// Concurrent requests that one connection may have.
pub const CONNECTION_STREAMS_MAX: u32 = 64;
/// Adapters' streams that the hub serves at once.
pub const ATTACH_STREAMS_MAX: usize = 1_024;
/// Wait that an adapter is asked for when no further stream is taken.
pub const ATTACH_RETRY: Duration = Duration::from_secs(1);
/// Interval of HTTP/2 keep-alive pings; with the time-out below, a dead peer is known in 20 s.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time that a peer has to answer a ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most creations of events that one span links to; more than that, backends drop.
pub const SPAN_LINKS_MAX: usize = 127;
/// Time between two looks at what the gauges show.
pub const GAUGES_PERIOD: Duration = Duration::from_secs(2);
/// Time that adapters have at shutdown to answer what is under way; shorter than the next one, so
/// that the answers are stored.
pub const DRAIN_RECEIPTS: Duration = Duration::from_secs(3);
/// Time that running calls have at shutdown.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest store that is checked as a whole before the hub serves, in bytes; a larger one is
/// checked beside the service: a start must not wait for a disk to be read through.
pub const CHECK_AT_START_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Largest store that gets a seal, in bytes: a stop reads it through once.
pub const SEAL_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// When a publisher is asked to come again after it found the hub's disk full.
pub const DISK_FULL_RETRY: Duration = Duration::from_secs(5);

/// Time between two looks for what is wrong. A parked subject alarms within a minute.
pub const ALARM_PERIOD: Duration = Duration::from_secs(10);
/// Municipalities for which alarms are looked for at once.
pub const ALARM_LOOKS: usize = 4;
/// Longest wait for what the runners know when alarms are looked for.
pub const ALARM_ASK: Duration = Duration::from_secs(5);
/// Time between two looks at the settings of a topic, which its brokers' operator can change.
pub const TOPIC_CHECK_PERIOD: Duration = Duration::from_secs(5 * 60);
/// Age from which on a parked subject counts as left alone.
pub const ALARM_PARKED_LONG: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Time between two looks at what the log may forget.
pub const RETENTION_PERIOD: Duration = Duration::from_secs(60);
/// Time between two looks at what the store may forget.
pub const HISTORY_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Positions that the log forgets in one step: publishing waits for no more than one.
pub const RETENTION_STEP: u64 = 2_048;
/// Bytes of them, as long as more than the positions of one unit are left.
pub const RETENTION_STEP_BYTES: u64 = 16 * 1024 * 1024;
/// Rows that the store looks at, or forgets, in one step.
pub const RETENTION_BATCH: usize = 512;
/// Percent of what the log may keep from which on somebody who holds it is worth a warning.
pub const RETENTION_HELD_WARNING: u64 = 50;
/// The same, for one that has to be acted on: the log is about to keep more than it may.
pub const RETENTION_HELD_CRITICAL: u64 = 90;
/// Time within which a support measure (支援措置) must have an outcome at each receiver.
pub const ALARM_PROTECTION: Duration = Duration::from_secs(5 * 60);
/// Time that a unit may wait for a version that is missing before it.
pub const ALARM_INCOMPLETE: Duration = Duration::from_secs(60);
/// Time in which something must move at a receiver that has work.
pub const ALARM_STILL: Duration = Duration::from_secs(5 * 60);
/// Time that a receiver may put everything off.
pub const ALARM_DOWN: Duration = Duration::from_secs(60);
/// Support measures without an outcome that are looked at together, oldest first.
pub const FOLLOWED_EVENTS_MAX: usize = 1_000;
/// Shortest rhythm of a source.
pub const SOURCE_RHYTHM_MIN: Duration = Duration::from_secs(1);
/// Longest rhythm of a source: what comes once a year, with some room.
pub const SOURCE_RHYTHM_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How long an instance owns a municipality after it last said so, by the database's clock.
pub const OWNER_LEASE: Duration = Duration::from_secs(6);
/// Time between two prolongations of an instance's leases.
pub const OWNER_RENEW: Duration = Duration::from_secs(1);
/// An instance trusts its lease by so much less than the database does: what was sent under it has
/// left before another instance owns the municipality.
pub const OWNER_LEASE_MARGIN: Duration = Duration::from_secs(1);
/// Longest time that an instance takes to give a municipality back.
pub const TOWN_CLOSE_MAX: Duration = Duration::from_secs(8);
/// Silence after which an instance is no member any more, and the others get its municipalities.
pub const MEMBER_SESSION: Duration = Duration::from_secs(6);
/// How long an instance that has lost the store stays in the group: all lose it when it starts
/// again, and then nothing should change hands.
pub const MEMBER_WITHOUT_STORE: Duration = Duration::from_secs(10);
/// How long an instance that the group lost keeps its municipalities, under its lease, for the
/// group to give them back.
pub const MEMBER_LOST_KEPT: Duration = Duration::from_secs(8);
/// Time between its signs of life.
pub const MEMBER_HEARTBEAT: Duration = Duration::from_secs(2);
/// Time between two looks for new municipalities.
pub const NEW_TOPICS_LOOK: Duration = Duration::from_secs(3);
/// Municipalities that an instance opens at once.
pub const TOWNS_OPENING: usize = 32;
/// Time between two attempts to take over a municipality whose former owner's lease still holds.
pub const OWNER_LOOK: Duration = Duration::from_millis(250);
/// Time after the first failed attempt to open a municipality; it doubles with each further one.
pub const OPEN_AGAIN_BASE: Duration = Duration::from_millis(250);
/// Longest time between two attempts to open a municipality that cannot be opened.
pub const OPEN_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long an answer about who owns a municipality is believed.
pub const OWNER_SEEN: Duration = Duration::from_millis(500);
/// Municipalities whose owner is remembered; more than Japan has.
pub const OWNERS_SEEN_MAX: usize = 2_048;
/// Longest wait of a request for a municipality that is changing hands.
pub const OWNER_WAIT: Duration = Duration::from_secs(20);
/// Requests that wait for an owner, over all municipalities.
pub const OWNER_WAITING: usize = 256;
/// Longest wait for what another instance knows.
pub const PEER_ANSWER: Duration = Duration::from_secs(5);
/// Longest wait for a connection to another instance.
pub const PEER_CONNECT: Duration = Duration::from_secs(3);
/// Instances to which connections are kept.
pub const PEERS_MAX: usize = 64;
/// When a caller is asked to come again while a municipality has no owner.
pub const NO_OWNER_RETRY: Duration = Duration::from_secs(1);

/// Connections of one instance to its database; one of them is kept for its leases.
pub const STORE_CONNECTIONS: u32 = 16;
/// Time that a connection to the database may take.
pub const STORE_CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a free connection to the database.
pub const STORE_CONNECTION_WAIT: Duration = Duration::from_secs(3);
/// Time in which the database has to answer one piece of work.
pub const STORE_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long an operation is tried again whose connection to the database was lost: a server that
/// starts again after a crash is waited for.
pub const STORE_RETRY_WITHIN: Duration = Duration::from_secs(10);
/// First wait before that; it doubles.
pub const STORE_RETRY_BASE: Duration = Duration::from_millis(20);
/// Longest wait between two such tries.
pub const STORE_RETRY_MAX: Duration = Duration::from_millis(500);

/// Time within which the brokers must have acknowledged a record, in which a broker that is lost
/// is replaced; then its outcome is unknown, and the publisher gets an answer.
pub const KAFKA_APPEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Time in which a broker answers one request, before it is asked again.
pub const KAFKA_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Time in which the brokers answer a question: a read behind the tail, bounds, settings, a trim.
pub const KAFKA_ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// Consumers that read behind the tail at once, over all municipalities.
pub const KAFKA_READERS: usize = 4;
/// Longest wait of a broker for records behind the end of a topic: as long a reader that goes on to
/// another topic waits.
pub const KAFKA_FETCH_WAIT: Duration = Duration::from_millis(10);
/// Records of one batch that are on their way at once.
pub const KAFKA_WINDOW_RECORDS: usize = 4_096;
/// Bytes of all batches that are on their way at once.
pub const KAFKA_WINDOW_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of what was appended last that an instance keeps in memory, over all municipalities.
pub const KAFKA_RECENT_BYTES: usize = 64 * 1024 * 1024;
/// Largest record of a topic, in bytes: a control record as large as a message can be.
pub const KAFKA_RECORD_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Records before the end of a topic in which a new owner looks for the last one that counts, at
/// first; it goes on farther back when there is none.
pub const KAFKA_TAIL_RECORDS: u64 = 512;
/// Foreign records of one stream whose places are remembered, to say each of them once.
pub const KAFKA_SET_ASIDE_MAX: usize = 1_024;
/// Bytes of rows, as text, that a migration writes into the database in one step.
pub const MIGRATED_STEP_BYTES: usize = 1024 * 1024;

/// Time in which whoever a look at a deployment asks must answer.
pub const LOOK_ASK: Duration = Duration::from_secs(5);
/// Topics whose settings a look asks for at once.
pub const LOOK_BATCH: usize = 200;
/// How far a clock may be off before a look warns: certificates, and times that people compare.
pub const CLOCK_OFF_WARNING: Duration = Duration::from_secs(1);
/// How far a clock may be off before a look calls it wrong.
pub const CLOCK_OFF_ERROR: Duration = Duration::from_secs(5);
/// Room of a disk, in percent, below which a look warns.
pub const DISK_ROOM_WARNING: u64 = 20;
/// Room of a disk, in percent, below which a look calls it too little.
pub const DISK_ROOM_ERROR: u64 = 5;
/// Largest file of a data folder that a look reads through.
pub const LOOK_FILE_BYTES: u64 = 512 << 20;
