//! Rules of a look, one by one.

use super::folder::{free, room, version};
use super::rules::*;
use super::*;
use crate::event::Position;
use crate::log::kafka::look::{At, Broker, Group};
use crate::store::postgres::look::{KNOWN_VERSION, Meta, Settings, Town};

const NOW: i64 = 1_800_000_000_000;

fn sound() -> Database {
    Database {
        identity: "one".to_owned(),
        settings: Settings {
            synchronous_commit: "on".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            connections: 97,
            standby: false,
            may_create: true,
        },
        clock: (NOW, NOW, NOW),
        meta: Some(Meta {
            version: KNOWN_VERSION,
            key_check: Some("a".to_owned()),
            may_alter: true,
            ..Meta::default()
        }),
    }
}

/// What of a database is not as it should be.
fn wrong(change: impl FnOnce(&mut Database)) -> Vec<(Level, String)> {
    let mut found = sound();
    change(&mut found);
    let all = database(&found, Needed::of(16, 2, false), Some("a"));
    let bad = all.into_iter().filter(|one| one.level > Level::Ok);
    bad.map(|one| {
        assert!(!one.needed.is_empty() && !one.mend.is_empty(), "{one:?}");
        (one.level, one.subject)
    })
    .collect()
}

#[test]
fn a_sound_database_has_nothing_to_mend() {
    assert_eq!(wrong(|_| {}), []);
}

#[test]
fn each_way_in_which_a_database_is_wrong_is_found() {
    type Change = fn(&mut Database);
    let cases: [(Change, Level, &str); 9] = [
        (|d| d.settings.fsync = "off".into(), Level::Error, "`fsync`"),
        (
            |d| d.settings.synchronous_commit = "off".into(),
            Level::Error,
            "`synchronous_commit`",
        ),
        (|d| d.settings.standby = true, Level::Error, "database"),
        (|d| d.settings.may_create = false, Level::Error, "rights"),
        (
            |d| d.settings.connections = 33,
            Level::Warning,
            "connections",
        ),
        (|d| d.clock.1 = NOW + 1_500, Level::Warning, "clock"),
        (|d| d.clock.1 = NOW - 3_600_000, Level::Error, "clock"),
        (
            |d| d.meta.as_mut().unwrap().version = 99,
            Level::Error,
            "tables",
        ),
        (
            |d| d.meta.as_mut().unwrap().key_check = Some("b".into()),
            Level::Error,
            "key",
        ),
    ];
    for (change, level, word) in cases {
        let found = wrong(change);
        assert_eq!(found.len(), 1, "{word}: {found:?}");
        assert!(
            found[0].0 == level && found[0].1.contains(word),
            "{found:?}"
        );
    }
}

#[test]
fn a_clock_is_as_right_as_can_be_known() {
    // Between the two readings, and within the second that a date leaves open.
    assert_eq!(clock("it", (NOW, NOW + 4, NOW + 8), 0), None);
    assert_eq!(clock("it", (NOW + 1_999, NOW, NOW + 2_000), 1_000), None);
    assert_eq!(clock("it", (NOW, NOW + 1_000, NOW), 0), None);
    let behind = clock("it", (NOW, NOW - 7_000, NOW), 1_000).unwrap();
    assert_eq!(behind.found, "6.000 s behind this machine's");
    assert_eq!(behind.level, Level::Error);
}

#[test]
fn another_cluster_than_the_databases_is_named() {
    assert_eq!(cluster(Some("x"), None), None);
    assert_eq!(cluster(Some("x"), Some("x")).unwrap().level, Level::Ok);
    let other = cluster(Some("x"), Some("y")).unwrap();
    assert_eq!(other.level, Level::Error);
    assert!(other.needed.contains("`y`"), "{other:?}");
}

#[test]
fn a_topic_that_forgets_warns_at_half_of_its_time_and_is_wrong_at_nearly_all_or_beyond() {
    let slowest = |age_ms: i64, first| Slowest {
        topic: "musubi.142042.live".to_owned(),
        retention_ms: 100_000,
        place: Position(7),
        at: At {
            first: Position(first),
            next: Position(9),
            written_ms: Some(NOW - age_ms),
        },
    };
    let level = |age_ms, first| retention(&slowest(age_ms, first), NOW).map(|one| one.level);
    assert_eq!(level(49_000, 1), None);
    assert_eq!(level(50_000, 1), Some(Level::Warning));
    assert_eq!(level(90_000, 1), Some(Level::Error));
    assert_eq!(level(0, 8), Some(Level::Error));
}

#[test]
fn weak_topics_are_wrong_unless_they_were_allowed_and_lost_replicas_are_seen() {
    let topic = Topic {
        name: "musubi.142042.live".to_owned(),
        weaknesses: Vec::new(),
        leaderless: 0,
        under_replicated: 1,
        retention_ms: None,
    };
    let found = topics(&Ok(vec![topic.clone()]), false);
    assert_eq!(found[0].level, Level::Warning);
    let found = topics(
        &Ok(vec![Topic {
            leaderless: 1,
            ..topic
        }]),
        false,
    );
    assert_eq!(found[0].level, Level::Error);
    assert_eq!(topics(&Ok(Vec::new()), false)[0].level, Level::Ok);
}

#[test]
fn a_broker_a_group_and_an_owner_that_are_missing_are_found() {
    let away = Broker {
        address: "kafka-1:9092".to_owned(),
        trouble: Some("no answer".to_owned()),
    };
    assert_eq!(brokers(&[away])[0].level, Level::Error);
    let members = |members| {
        let state = "Stable".to_owned();
        group("musubi", &Ok(Some(Group { state, members })), 2).level
    };
    assert_eq!(members(0), Level::Warning);
    assert_eq!(members(2), Level::Ok);
    assert_eq!(members(3), Level::Warning);
    let seen = Instances {
        answers: Vec::new(),
        towns: vec![Town {
            municipality: "142042".to_owned(),
            owner: Some("http://a:1".to_owned()),
            holds: false,
            migration: None,
        }],
    };
    let found = instances(&seen);
    assert_eq!(found.len(), 1);
    assert!(found[0].found.contains("http://a:1"), "{found:?}");
}

#[test]
fn the_room_of_a_disk_is_read_and_judged() {
    let said =
        "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 1000 900 40 96% /\n";
    assert_eq!(free(said), Some(4));
    assert_eq!(free("no table"), None);
    assert_eq!(room(4, "d").unwrap().level, Level::Error);
    assert_eq!(room(19, "d").unwrap().level, Level::Warning);
    assert_eq!(room(20, "d").unwrap().level, Level::Ok);
    assert_eq!(version("f", 5, 4).level, Level::Error);
}
