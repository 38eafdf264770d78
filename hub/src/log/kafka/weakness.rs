//! What a topic promises less than the log does, setting by setting.
//! Pure: over what the brokers told of a topic.
//! Must never call a setting good that lets an acknowledged event vanish.
//! Read next: `docs/specs/log.md` (Kafka).

use rdkafka::admin::ConfigResource;

use crate::limits::KAFKA_RECORD_BYTES_MAX;

/// A setting of a topic that promises less than the log does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Weakness {
    /// Topic.
    pub topic: String,
    /// Setting.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it must be.
    pub needed: &'static str,
    /// How it is mended.
    pub mend: String,
}

impl Weakness {
    /// A compacted topic forgets every event of a person but the last one, at any moment: nobody
    /// can want that.
    pub(crate) fn can_be_allowed(&self) -> bool {
        self.setting != "cleanup.policy"
    }
}

impl std::fmt::Display for Weakness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            topic,
            setting,
            found,
            needed,
            mend,
        } = self;
        write!(
            f,
            "the topic `{topic}` has `{setting}` {found} and needs {needed}; mend it with: {mend}"
        )
    }
}

/// What a topic is, as far as the brokers tell without its settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) partitions: usize,
    pub(super) replicas: usize,
    pub(super) has_leader: bool,
}

/// What a setting must be.
struct Rule {
    setting: &'static str,
    is_enough: fn(&str) -> bool,
    needed: &'static str,
    right: fn() -> String,
}

const RULES: [Rule; 6] = [
    Rule {
        setting: "min.insync.replicas",
        is_enough: |found| number(found) >= 2,
        needed: "2 at least",
        right: || "2".to_owned(),
    },
    Rule {
        setting: "cleanup.policy",
        is_enough: |found| found == "delete",
        needed: "delete",
        right: || "delete".to_owned(),
    },
    // The hub trims by itself, and never what somebody needs.
    Rule {
        setting: "retention.ms",
        is_enough: |found| number(found) == -1,
        needed: "-1",
        right: || "-1".to_owned(),
    },
    Rule {
        setting: "retention.bytes",
        is_enough: |found| number(found) == -1,
        needed: "-1",
        right: || "-1".to_owned(),
    },
    Rule {
        setting: "unclean.leader.election.enable",
        is_enough: |found| found == "false",
        needed: "false",
        right: || "false".to_owned(),
    },
    Rule {
        setting: "max.message.bytes",
        is_enough: |found| number(found) >= KAFKA_RECORD_BYTES_MAX as i64,
        needed: "the size of the largest record",
        right: || KAFKA_RECORD_BYTES_MAX.to_string(),
    },
];

/// A number, or 0: no rule is content with that.
fn number(found: &str) -> i64 {
    found.parse().unwrap_or(0)
}

/// What a topic promises less.
pub(super) fn weaknesses(
    brokers: &str,
    topic: &str,
    shape: Shape,
    settings: &ConfigResource,
) -> Vec<Weakness> {
    let weak = |setting, found: String, needed, mend| Weakness {
        topic: topic.to_owned(),
        setting,
        found,
        needed,
        mend,
    };
    let mut all = Vec::new();
    if shape.partitions != 1 {
        let mend = "a topic cannot lose partitions: make it anew and migrate".to_owned();
        let found = shape.partitions.to_string();
        all.push(weak("partitions", found, "1", mend));
    }
    if shape.replicas < 2 {
        let mend = format!(
            "kafka-reassign-partitions.sh --bootstrap-server {brokers} --execute \
             --reassignment-json-file <a file that names three brokers for {topic}>"
        );
        let found = shape.replicas.to_string();
        all.push(weak(
            "replication factor",
            found,
            "2 at least, better 3",
            mend,
        ));
    }
    for rule in &RULES {
        let entry = settings.get(rule.setting);
        let found = entry.and_then(|entry| entry.value.clone());
        let found = found.unwrap_or_else(|| "unset".to_owned());
        if !(rule.is_enough)(&found) {
            let mend = format!(
                "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics \
                 --entity-name {topic} --add-config {}={}",
                rule.setting,
                (rule.right)()
            );
            all.push(weak(rule.setting, found, rule.needed, mend));
        }
    }
    all
}
