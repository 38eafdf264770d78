//! The projection against a decoder that knows nothing of it: what `prost-reflect` reads from
//! the projected bytes is what it reads from the whole, less what is not granted.

use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use super::random::Random;
use super::wire_forms::{FORMS, sample_pool};
use super::*;

const CASES: u32 = 1_000;

/// How the person is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    Open,
    Guarded,
    Blind,
}

pub(super) const ALL_SHOWN: [(Shown, Receiver, bool); 3] = [
    (Shown::Open, CANNOT_HOLD, false),
    (Shown::Guarded, HOLDS, true),
    (Shown::Blind, CANNOT_HOLD, true),
];

/// True when a path is granted itself or stands below a granted one.
pub(super) fn is_granted(paths: &[String], path: &str) -> bool {
    paths.iter().any(|granted| is_at_or_below(path, granted))
}

/// True when something below a path is granted.
pub(super) fn is_above_granted(paths: &[String], path: &str) -> bool {
    paths.iter().any(|granted| is_at_or_below(granted, path))
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Runs a check on seeds that are the same in every run.
pub(super) fn for_seeds(cases: u32, check: impl Fn(u64)) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&any::<u64>(), |seed| {
        check(seed);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Cuts a decoded message down, by names.
struct Oracle<'a> {
    paths: &'a [String],
    shown: Shown,
}

impl Oracle<'_> {
    fn cut(&self, message: &mut DynamicMessage, above: &str) {
        message.take_unknown_fields().for_each(drop);
        let fields: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
        for field in fields {
            let path = join(above, field.name());
            if !is_granted(self.paths, &path) && !is_above_granted(self.paths, &path) {
                message.clear_field(&field);
                continue;
            }
            if self.shown != Shown::Open && self.withheld(&field, &path, message) {
                message.clear_field(&field);
                continue;
            }
            match message.get_field_mut(&field) {
                Value::Message(held) => self.held(held, &path),
                Value::List(list) => {
                    list.iter_mut()
                        .filter_map(Value::as_message_mut)
                        .for_each(|held| self.held(held, &path));
                }
                Value::Map(map) => {
                    map.values_mut()
                        .filter_map(Value::as_message_mut)
                        .for_each(|held| self.held(held, &path));
                }
                _ => {}
            }
        }
    }

    /// An address of a protected person that a blind receiver must not see, or a text about
    /// one that cannot hold a token.
    fn withheld(&self, field: &FieldDescriptor, path: &str, message: &DynamicMessage) -> bool {
        let in_address = message.descriptor().name() == "Address";
        let ward = matches!(path, "ward_from" | "ward_to") && !in_address;
        let held = match field.kind() {
            prost_reflect::Kind::Message(entry) if entry.is_map_entry() => {
                entry.map_entry_value_field().kind()
            }
            kind => kind,
        };
        let address = held
            .as_message()
            .is_some_and(|held| held.name() == "Address");
        ward || (address && self.shown == Shown::Blind)
    }

    fn held(&self, held: &mut DynamicMessage, path: &str) {
        let is_address = held.descriptor().name() == "Address";
        if is_address && self.shown != Shown::Open && path != "record.address" {
            *held = DynamicMessage::new(held.descriptor());
            held.set_field_by_name("redaction", Value::EnumNumber(2));
            held.set_field_by_name("redaction_token", Value::String("T".to_owned()));
        } else {
            self.cut(held, path);
        }
    }
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}.{name}")
    }
}

/// Takes single messages away that say nothing. Whether they are shown is tested apart.
fn prune(message: &mut DynamicMessage) {
    let fields: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        let empty = match message.get_field_mut(&field) {
            Value::Message(held) => {
                prune(held);
                held.fields().next().is_none()
            }
            Value::List(list) => {
                list.iter_mut()
                    .filter_map(Value::as_message_mut)
                    .for_each(prune);
                false
            }
            Value::Map(map) => {
                map.values_mut()
                    .filter_map(Value::as_message_mut)
                    .for_each(prune);
                false
            }
            _ => false,
        };
        if empty {
            message.clear_field(&field);
        }
    }
}

/// The message as it is read back, without traces of what was taken out of it.
fn again(message: &DynamicMessage) -> DynamicMessage {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(message.descriptor(), bytes.as_slice()).expect("decodes")
}

#[test]
fn a_decoder_reads_the_granted_part_and_nothing_else() {
    let pool = sample_pool();
    let schema = Schema::from_pool(&pool).expect("the sample loads");
    let mut events: Vec<&str> = schema.event_types();
    events.retain(|name| {
        schema
            .event_type(name)
            .is_some_and(|event| event.record.is_some())
    });
    for_seeds(CASES, |seed| {
        let mut random = Random::new(seed);
        // Every second case takes the forms that the standard events do not use.
        let name = if seed % 2 == 0 {
            FORMS
        } else {
            events[random.below(events.len())]
        };
        let descriptor = pool.get_message_by_name(name).expect("a message");
        let paths = random.paths(&descriptor);
        let grant = grant(&schema, name, &paths.join("; "));
        let data = random.message(&descriptor, "", 0);
        let whole = DynamicMessage::decode(descriptor.clone(), data.as_slice()).expect("decodes");
        for (shown, receiver, protected) in ALL_SHOWN {
            let token = |_: &[u8]| "T".to_owned();
            let projected =
                project(&schema, &grant, &data, &receiver, protected, &token).expect("projected");
            let mut seen = DynamicMessage::decode(descriptor.clone(), projected.data.as_slice())
                .expect("the projection decodes");
            prune(&mut seen);
            let mut expected = whole.clone();
            Oracle {
                paths: &paths,
                shown,
            }
            .cut(&mut expected, "");
            prune(&mut expected);
            // The debug form of a message that holds itself would have no end.
            let same = again(&seen) == again(&expected);
            assert!(
                same,
                "seed {seed}: {name} {shown:?} {paths:?}\n{seen}\n{expected}"
            );
        }
    });
}
