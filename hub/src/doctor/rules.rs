//! What is right and what is wrong: from facts to findings.
//! Pure but for the permissions of one file; the facts are asked for in `doctor.rs`.
//! Must never call good what can lose an event that was acknowledged.
//! Read next: `log/kafka/weakness.rs`, `doctor/tests.rs`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Finding, Level};
use crate::event::Position;
use crate::limits::{CLOCK_OFF_ERROR, CLOCK_OFF_WARNING};
use crate::log::kafka::look::{At, Broker, Group, Topic};
use crate::retention::Held;
use crate::server::ServeError;
use crate::store::postgres::look::{Database, KNOWN_VERSION, Town};

/// The date of an answer says no more than the second.
const DATE_MS: i64 = 1_000;

/// Connections that the instances need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Needed {
    instances: u64,
    each: u32,
    /// A pooler stands between: it says itself how many it opens.
    pooled: bool,
}

impl Needed {
    /// What the instances that run need, or the one that is to be started.
    pub(super) fn of(each: u32, instances: usize, pooled: bool) -> Self {
        let instances = (instances as u64).max(1);
        Self {
            instances,
            each,
            pooled,
        }
    }

    /// Each migrates over one connection more.
    fn connections(self) -> u64 {
        self.instances * (u64::from(self.each) + 1)
    }
}

/// The slowest subscription of a topic that forgets by time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slowest {
    pub(super) topic: String,
    pub(super) retention_ms: i64,
    pub(super) place: Position,
    pub(super) at: At,
}

/// What an instance answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) address: String,
    pub(super) trouble: Option<String>,
    /// Its clock between two readings of this machine's.
    pub(super) clock: Option<(i64, i64, i64)>,
}

/// The instances and what they own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Instances {
    pub(super) answers: Vec<Answer>,
    pub(super) towns: Vec<Town>,
}

/// A file that the configuration names.
pub(super) fn unreadable(subject: &str, error: &ServeError) -> Finding {
    let mend = "correct the configuration or the file";
    Finding::error(subject, error.to_string(), "a file that can be used", mend)
}

/// The key opens the pseudonyms of everybody.
pub(super) fn key_file(path: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let subject = format!("the key of the pseudonyms `{}`", path.display());
    Some(match mode & 0o077 {
        0 => Finding::ok(subject, "readable by its owner alone"),
        _ => Finding::warning(
            subject,
            format!("mode {mode:o}: others may read it"),
            "mode 600",
            format!("chmod 600 {}", path.display()),
        ),
    })
}

/// The database by its address, and by its own one when a pooler stands between.
pub(super) fn addresses(
    by_url: &Result<Database, String>,
    by_direct: Option<&Result<Database, String>>,
) -> Vec<Finding> {
    let reached = |subject: &str, key: &str, answer: &Result<Database, String>| match answer {
        Ok(_) => Finding::ok(subject, "reached"),
        Err(error) => Finding::error(
            subject,
            error,
            "an answer",
            format!("start it, or correct `{key}`, its user or password"),
        ),
    };
    let mut all = vec![reached("the database", "cluster.postgres.url", by_url)];
    let Some(by_direct) = by_direct else {
        return all;
    };
    let subject = "the database without its pooler";
    all.push(reached(subject, "cluster.postgres.direct_url", by_direct));
    if let (Ok(url), Ok(direct)) = (by_url, by_direct)
        && url.identity != direct.identity
    {
        all.push(Finding::error(
            subject,
            "another database than the pooler leads to",
            "the same one",
            "correct `cluster.postgres.direct_url`, or the pooler's list of databases",
        ));
    }
    all
}

/// How a database is set, and whose it is.
pub(super) fn database(found: &Database, needed: Needed, key: Option<&str>) -> Vec<Finding> {
    let mut all = settings(found, needed);
    all.extend(clock("the clock of the database", found.clock, 0));
    let Some(meta) = &found.meta else {
        let found = "empty: the first instance makes its tables";
        all.push(Finding::ok("the tables of the database", found));
        return all;
    };
    all.push(version(meta.version));
    if !meta.may_alter {
        all.push(Finding::error(
            "the rights of the database's user",
            "the tables belong to somebody else",
            "a user that may change them: the history gets a partition every month",
            "ALTER TABLE … OWNER TO the hub's user, for all tables",
        ));
    }
    match (key, meta.key_check.as_deref()) {
        (Some(given), Some(known)) if given != known => all.push(Finding::error(
            "the key of the pseudonyms",
            "another one than that of the instances that use the database",
            "the same key at all instances",
            "copy the file of an instance that runs",
        )),
        (Some(_), Some(_)) => all.push(Finding::ok(
            "the key of the pseudonyms",
            "the one that the instances use",
        )),
        _ => {}
    }
    all
}

fn version(found: i64) -> Finding {
    let subject = "the tables of the database";
    let needed = format!("version {KNOWN_VERSION}");
    match found {
        found if found > KNOWN_VERSION => Finding::error(
            subject,
            format!("version {found}, of a newer program"),
            needed,
            "start a newer version of this program",
        ),
        found if found < KNOWN_VERSION => Finding::warning(
            subject,
            format!("version {found}, of an older program"),
            needed,
            "the first instance of this version that starts changes them; make a backup before",
        ),
        found => Finding::ok(subject, format!("version {found}")),
    }
}

fn settings(found: &Database, needed: Needed) -> Vec<Finding> {
    let set = &found.settings;
    let mut all = Vec::new();
    let must_be_on = |name: &str, value: &str, why: &str| {
        let subject = format!("the database's `{name}`");
        match value {
            "off" => Finding::error(
                subject,
                format!("off: {why}"),
                "on",
                format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"),
            ),
            value => Finding::ok(subject, value),
        }
    };
    let lost = "what it says is written is not on its disk";
    all.push(must_be_on(
        "synchronous_commit",
        &set.synchronous_commit,
        lost,
    ));
    all.push(must_be_on("fsync", &set.fsync, lost));
    let torn = "a power cut can leave half a page";
    all.push(must_be_on("full_page_writes", &set.full_page_writes, torn));
    if set.standby {
        all.push(Finding::error(
            "the database",
            "a standby, which takes no writes",
            "the primary",
            "let `cluster.postgres.url` lead to the primary",
        ));
    }
    if !set.may_create {
        all.push(Finding::error(
            "the rights of the database's user",
            "it may make no tables",
            "the right to make tables: the history gets a partition every month",
            "GRANT CREATE ON SCHEMA … TO the hub's user",
        ));
    }
    let subject = "the database's connections";
    let count = format!(
        "{} for {} of {} each",
        set.connections,
        several(needed.instances, "instance"),
        u64::from(needed.each) + 1
    );
    let enough = needed.connections() <= set.connections.unsigned_abs();
    all.push(match enough || needed.pooled {
        true => Finding::ok(subject, count),
        false => Finding::warning(
            subject,
            count,
            format!("{} at least", needed.connections()),
            "raise `max_connections` and restart the database, lower \
             `cluster.postgres.connections`, or put a pooler between",
        ),
    });
    all
}

/// A clock, read between two readings of this machine's; `coarse` is how much it may hide.
pub(super) fn clock(subject: &str, read: (i64, i64, i64), coarse: i64) -> Option<Finding> {
    let (before, it, after) = read;
    let off_ms = match it {
        it if it > after => it - after,
        it if it + coarse < before => it + coarse - before,
        _ => 0,
    };
    let off = off_ms.unsigned_abs();
    let text = format!(
        "{}.{:03} s {} this machine's",
        off / 1_000,
        off % 1_000,
        match off_ms {
            off_ms if off_ms < 0 => "behind",
            _ => "before",
        }
    );
    let level = match u128::from(off) {
        off if off > CLOCK_OFF_ERROR.as_millis() => Level::Error,
        off if off > CLOCK_OFF_WARNING.as_millis() => Level::Warning,
        _ => return None,
    };
    let mend = "let both machines follow a time server (chronyc tracking)";
    Some(Finding::of(level, subject, text, "the same time", mend))
}

/// Brokers that answer.
pub(super) fn brokers(each: &[Broker]) -> Vec<Finding> {
    let one = |broker: &Broker| {
        let subject = format!("the broker {}", broker.address);
        match &broker.trouble {
            None => Finding::ok(subject, "answers"),
            Some(trouble) => Finding::error(
                subject,
                trouble,
                "an answer",
                "start it, or correct `cluster.kafka.brokers`, its `advertised.listeners`, the \
                 network or the credentials",
            ),
        }
    };
    each.iter().map(one).collect()
}

/// Whose events the database knows.
pub(super) fn cluster(id: Option<&str>, known: Option<&str>) -> Option<Finding> {
    let (id, known) = (id?, known?);
    let subject = "the Kafka cluster";
    Some(match id == known {
        true => Finding::ok(subject, id),
        false => Finding::error(
            subject,
            id,
            format!("`{known}`, to which the database belongs"),
            "let `cluster.kafka.brokers` name that cluster, or give this one a database of its own",
        ),
    })
}

/// Topics that promise what the log promises.
pub(super) fn topics(topics: &Result<Vec<Topic>, String>, weak_allowed: bool) -> Vec<Finding> {
    let topics = match topics {
        Ok(topics) => topics,
        Err(error) => {
            let mend = "let the client describe topics and their settings (ACL: Describe, \
                        DescribeConfigs)";
            return vec![Finding::error("the topics", error, "an answer", mend)];
        }
    };
    let level = match weak_allowed {
        true => Level::Warning,
        false => Level::Error,
    };
    let mut all = Vec::new();
    for topic in topics {
        for weak in &topic.weaknesses {
            let subject = format!("the topic {}: {}", topic.name, weak.setting);
            all.push(Finding::of(
                level,
                subject,
                &weak.found,
                weak.needed,
                &weak.mend,
            ));
        }
        let subject = format!("the topic {}", topic.name);
        if topic.leaderless > 0 {
            let mend = "start the brokers that have its replicas";
            all.push(Finding::error(
                subject,
                "without a leader",
                "a leader",
                mend,
            ));
        } else if topic.under_replicated > 0 {
            let mend =
                "start the brokers that have its replicas, or wait until they have caught up";
            let found = "a replica is not in sync";
            all.push(Finding::warning(
                subject,
                found,
                "all replicas in sync",
                mend,
            ));
        }
    }
    if all.is_empty() {
        let count = several(topics.len() as u64, "topic");
        all.push(Finding::ok("the topics", format!("{count}, all as needed")));
    }
    all
}

/// The group of all instances.
pub(super) fn group(name: &str, group: &Result<Option<Group>, String>, towns: usize) -> Finding {
    let subject = format!("the group {name}");
    let members = match group {
        Err(error) => {
            let mend = "let the client describe groups (ACL: Describe on the group)";
            return Finding::error(subject, error, "an answer", mend);
        }
        Ok(group) => group.as_ref().map_or(0, |group| group.members),
    };
    let found = several(members as u64, "member");
    match members {
        0 => Finding::warning(
            subject,
            "no member: no instance runs",
            "an instance at least",
            "musubi serve --config …",
        ),
        members if members > towns && members > 1 => Finding::warning(
            subject,
            format!("{found} for {}", several(towns as u64, "municipality")),
            "no more instances than municipalities: the rest own nothing",
            "fewer instances, unless more municipalities are to come",
        ),
        _ => Finding::ok(subject, found),
    }
}

/// A topic forgets by time, whoever still needs the record (E6).
pub(super) fn retention(slowest: &Slowest, now_ms: i64) -> Option<Finding> {
    let Slowest {
        topic,
        retention_ms,
        place,
        at,
    } = slowest;
    let subject = format!("the topic {topic}: the slowest subscription");
    let mend = "set `retention.ms` to -1 now, then start or resume the subscription's adapter \
                (musubi subscriptions)";
    if *place < at.first {
        return Some(Finding::error(
            subject,
            format!(
                "needs position {}, and the topic begins at {}",
                place.0, at.first.0
            ),
            "every position that a subscription needs",
            "the records are gone: have the source send a snapshot and bind the product anew",
        ));
    }
    let age_ms = now_ms.saturating_sub(at.written_ms?).max(0);
    let share = age_ms.saturating_mul(100) / (*retention_ms).max(1);
    let level = match Held::of(share.unsigned_abs()) {
        Held::Little => return None,
        Held::Warning => Level::Warning,
        Held::Critical => Level::Error,
    };
    let found = format!("is at {share} % of what the topic keeps");
    Some(Finding::of(level, subject, found, "less than 50 %", mend))
}

/// Instances that answer, and municipalities that somebody owns.
pub(super) fn instances(seen: &Instances) -> Vec<Finding> {
    let mut all = Vec::new();
    for answer in &seen.answers {
        let subject = format!("the instance {}", answer.address);
        match &answer.trouble {
            Some(trouble) => all.push(Finding::error(
                subject,
                trouble,
                "an answer: the other instances and the adapters go there",
                "correct `cluster.address` of that instance, or the network",
            )),
            None => all.push(Finding::ok(subject, "answers")),
        }
        let subject = format!("the clock of the instance {}", answer.address);
        all.extend(answer.clock.and_then(|read| clock(&subject, read, DATE_MS)));
    }
    let nobodys: Vec<_> = seen.towns.iter().filter(|town| !town.holds).collect();
    let owned = seen.towns.len() - nobodys.len();
    if owned > 0 {
        let count = several(owned as u64, "municipality");
        all.push(Finding::ok("the owners", format!("{count} with an owner")));
    }
    for town in nobodys {
        all.push(Finding::error(
            format!("the municipality {}", town.municipality),
            match &town.owner {
                Some(address) => format!("the lease of its owner {address} is over"),
                None => "nobody owns it".to_owned(),
            },
            "an instance that owns it",
            "start an instance; when one runs, its lines (`it cannot be opened`) say why not",
        ));
    }
    all
}

/// A number with its noun.
pub(super) fn several(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}
