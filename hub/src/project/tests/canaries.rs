//! No text outside of a grant is left in the projected bytes, wherever it stood.

use super::oracle::{ALL_SHOWN, Shown, for_seeds, is_above_granted, is_granted};
use super::random::{Canary, Random};
use super::wire_forms::{FORMS, sample_pool};
use super::*;

const CASES: u32 = 600;

/// Fields of the contracts that hold an address.
const ADDRESSES: [&str; 8] = [
    "address",
    "previous_address",
    "last_registered_address",
    "old_address",
    "planned_destination",
    "confirmed_destination",
    "addresses",
    "address_map",
];

fn may_be_seen(canary: &Canary, paths: &[String], shown: Shown) -> bool {
    let Some(path) = &canary.path else {
        return false;
    };
    let granted = is_granted(paths, path) || (canary.is_key && is_above_granted(paths, path));
    let in_address = path.split('.').any(|segment| ADDRESSES.contains(&segment))
        || matches!(path.as_str(), "ward_from" | "ward_to");
    // The key of a map of addresses is no address.
    granted
        && match shown {
            Shown::Open => true,
            Shown::Guarded => !in_address || path.starts_with("record.address.") || canary.is_key,
            Shown::Blind => !in_address,
        }
}

#[test]
fn no_text_that_is_not_granted_survives() {
    let pool = sample_pool();
    let schema = Schema::from_pool(&pool).expect("the sample loads");
    let mut events: Vec<&str> = schema.event_types();
    events.retain(|name| {
        schema
            .event_type(name)
            .is_some_and(|event| event.record.is_some())
    });
    let survivors = std::cell::Cell::new(0_usize);
    for_seeds(CASES, |seed| {
        let mut random = Random::new(seed);
        let name = if seed % 4 == 0 {
            FORMS
        } else {
            events[random.below(events.len())]
        };
        let descriptor = pool.get_message_by_name(name).expect("a message");
        let paths = random.paths(&descriptor);
        let grant = grant(&schema, name, &paths.join("; "));
        let data = random.message(&descriptor, "", 0);
        for (shown, receiver, protected) in ALL_SHOWN {
            let projected =
                project(&schema, &grant, &data, &receiver, protected, &token).expect("projected");
            let text = String::from_utf8_lossy(&projected.data);
            for canary in random
                .canaries
                .iter()
                .filter(|canary| text.contains(&canary.text))
            {
                let granted = may_be_seen(canary, &paths, shown);
                assert!(
                    granted,
                    "seed {seed}: {name} {shown:?} {canary:?} {paths:?}"
                );
                survivors.set(survivors.get() + 1);
            }
            // What the receiver is told it sees is never more than what it was granted.
            for path in &projected.granted_paths {
                assert!(is_granted(&paths, path), "seed {seed}: {path}");
            }
        }
    });
    assert!(
        survivors.get() > 1000,
        "the test must see granted texts: {}",
        survivors.get()
    );
}

#[test]
fn built_in_grants_let_no_address_of_a_protected_person_through() {
    let pool = musubi_proto::descriptor_pool();
    let schema = schema();
    let table = GrantTable::builtin(&schema).expect("the built-in grants are right");
    let grants: Vec<_> = table.all().collect();
    for_seeds(400, |seed| {
        let mut random = Random::new(seed);
        let grant = grants[random.below(grants.len())];
        let descriptor = pool
            .get_message_by_name(&grant.event_type)
            .expect("a message");
        let data = random.message(&descriptor, "", 0);
        for (shown, receiver, protected) in ALL_SHOWN {
            let projected =
                project(&schema, grant, &data, &receiver, protected, &token).expect("projected");
            let text = String::from_utf8_lossy(&projected.data);
            for canary in random
                .canaries
                .iter()
                .filter(|canary| text.contains(&canary.text))
            {
                assert!(
                    may_be_seen(canary, &grant.paths, shown),
                    "seed {seed}: {canary:?}"
                );
            }
        }
    });
}
