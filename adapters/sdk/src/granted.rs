//! Which paths of an event a receiver is granted.
//! Adapters ask it before they touch a field of their product.
//! It must never read silence as a grant.
//! Read next: `payload.rs`.

use crate::hub::DeliveredEvent;

/// The granted paths of one delivered event.
#[derive(Debug, Clone, Copy)]
pub struct Granted<'a> {
    paths: &'a [String],
}

impl<'a> From<&'a DeliveredEvent> for Granted<'a> {
    fn from(event: &'a DeliveredEvent) -> Self {
        Self {
            paths: &event.granted_paths,
        }
    }
}

impl Granted<'_> {
    /// True when `path` or one of its parents is granted. A granted child does not grant the
    /// parent: `record.previous_address.country_code` says nothing about `record.previous_address`.
    pub fn covers(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|granted| is_same_or_parent(granted, path))
    }
}

fn is_same_or_parent(granted: &str, path: &str) -> bool {
    path.strip_prefix(granted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_granted_parent_covers_its_children_and_nothing_else() {
        let event = DeliveredEvent {
            event: None,
            granted_paths: vec![
                "record.address".to_owned(),
                "record.previous_address.country_code".to_owned(),
            ],
        };
        let granted = Granted::from(&event);
        for (path, covered) in [
            ("record.address", true),
            ("record.address.town", true),
            ("record.address_since", false),
            ("record", false),
            ("record.previous_address", false),
            ("record.previous_address.country_code", true),
            ("", false),
        ] {
            assert_eq!(granted.covers(path), covered, "{path}");
        }
    }
}
