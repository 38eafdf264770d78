//! Granted paths as trees of field numbers, ready for the walk over wire bytes.
//! Compiled once when a table is read; one tree for each way in which a person can be shown.
//! Must never let an address through a tree for protected persons in any other form than the
//! rules allow, however deep it stands.
//! Read next: `project.rs`.

use crate::schema::{EventShape, FieldShape, MessageIndex, Schema};

/// What of a field may pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mask {
    /// Everything that the contract knows below it.
    Whole,
    /// Not the value, but a token in its place.
    Token,
    /// Only these fields, by number.
    Part(Vec<(u32, Mask)>),
}

/// What a receiver sees, and the paths that it is told it sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Mask of the payload.
    pub mask: Mask,
    /// Granted paths: the receiver may take absence below them for emptiness.
    pub paths: Vec<String>,
}

/// The kinds of addresses that a grant shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Addresses {
    pub(super) current: bool,
    pub(super) others: bool,
}

/// What a receiver can do with a protected person's address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    Flag,
    Nothing,
}

impl Mask {
    /// What of the field with this number may pass.
    pub fn field(&self, number: u32) -> Option<&Mask> {
        match self {
            Mask::Whole => Some(&Mask::Whole),
            Mask::Token => None,
            Mask::Part(fields) => {
                let place = fields
                    .binary_search_by_key(&number, |(number, _)| *number)
                    .ok()?;
                fields.get(place).map(|(_, mask)| mask)
            }
        }
    }

    /// Adds a path that is given by field numbers.
    fn insert(&mut self, path: &[u32]) {
        let Mask::Part(fields) = self else { return };
        let Some((number, rest)) = path.split_first() else {
            *self = Mask::Whole;
            return;
        };
        let place = match fields.binary_search_by_key(number, |(number, _)| *number) {
            Ok(place) => place,
            Err(place) => {
                fields.insert(place, (*number, Mask::Part(Vec::new())));
                place
            }
        };
        fields[place].1.insert(rest);
    }
}

/// Says whether a path names a field below a message.
pub(super) fn resolves(schema: &Schema, message: MessageIndex, path: &str) -> bool {
    numbers(schema, message, path).is_ok()
}

/// Compiles paths into the mask of what anybody's events show.
///
/// # Errors
/// Gives back the path that does not name a field.
pub(super) fn open<'p>(
    schema: &Schema,
    event: &EventShape,
    paths: &'p [String],
) -> Result<Mask, &'p str> {
    let mut mask = Mask::Part(Vec::new());
    for path in paths {
        let path_numbers = numbers(schema, event.message, path).map_err(|()| path.as_str())?;
        // A map is reached through its entries, which keep their keys.
        for path in path_numbers {
            mask.insert(&path);
        }
    }
    Ok(mask)
}

/// The view of a protected person's events.
pub(super) fn protected(
    schema: &Schema,
    event: &EventShape,
    open: &Mask,
    paths: &[String],
    holding: Holding,
) -> View {
    let mut walk = Walk {
        schema,
        event,
        holding,
        found: Addresses::default(),
        above: Vec::new(),
    };
    let mask = walk
        .message(event.message, open)
        .unwrap_or(Mask::Part(Vec::new()));
    let paths = paths
        .iter()
        .flat_map(|path| {
            let mut clear = Vec::new();
            clear_paths(
                schema,
                event.message,
                &mask,
                "",
                path.split('.'),
                &mut clear,
            );
            clear
        })
        .collect();
    View { mask, paths }
}

/// Which kinds of addresses a mask shows.
pub(super) fn addresses(schema: &Schema, event: &EventShape, open: &Mask) -> Addresses {
    let holding = Holding::Flag;
    let mut walk = Walk {
        schema,
        event,
        holding,
        found: Addresses::default(),
        above: Vec::new(),
    };
    walk.message(event.message, open);
    walk.found
}

/// Cuts a mask down to what may be seen of a protected person.
struct Walk<'a> {
    schema: &'a Schema,
    event: &'a EventShape,
    holding: Holding,
    found: Addresses,
    /// The messages from the payload down to the one that is being cut, with the field
    /// numbers that lead to the next.
    above: Vec<(MessageIndex, u32)>,
}

impl Walk<'_> {
    fn message(&mut self, message: MessageIndex, mask: &Mask) -> Option<Mask> {
        if *mask == Mask::Whole && !self.holds_address(message, &mut Vec::new()) {
            return Some(Mask::Whole);
        }
        let schema = self.schema;
        let shape = schema.at(message);
        let mut kept = Vec::new();
        for field in shape.fields() {
            let Some(sub) = mask.field(field.number) else {
                continue;
            };
            if let Some(sub) = self.field(message, field, sub) {
                kept.push((field.number, sub));
            }
        }
        // A key says nothing without its value.
        let bare_key = shape.map_entry && kept.iter().all(|(number, _)| *number == MAP_KEY);
        (!kept.is_empty() && !bare_key).then_some(Mask::Part(kept))
    }

    fn field(&mut self, message: MessageIndex, field: &FieldShape, mask: &Mask) -> Option<Mask> {
        let Some(held) = field.message() else {
            if field.is_address_text() {
                // A code cannot hold a token, so it is withheld.
                self.found.others = true;
                return None;
            }
            return Some(mask.clone());
        };
        if self.schema.at(held).is_address {
            return self.address(field, mask);
        }
        // Of a message inside itself only the outer one is shown; nothing can hide in depth.
        if message == held || self.above.iter().any(|(above, _)| *above == held) {
            return (!self.holds_address(held, &mut Vec::new())).then(|| mask.clone());
        }
        self.above.push((message, field.number));
        let kept = self.message(held, mask);
        self.above.pop();
        kept
    }

    fn address(&mut self, field: &FieldShape, mask: &Mask) -> Option<Mask> {
        let current = self.is_current(field);
        self.found.current |= current;
        self.found.others |= !current;
        match (self.holding, current) {
            (Holding::Nothing, _) => None,
            (Holding::Flag, true) => Some(mask.clone()),
            (Holding::Flag, false) => Some(Mask::Token),
        }
    }

    /// True for `record.address` of the event.
    fn is_current(&self, field: &FieldShape) -> bool {
        let Some(place) = self.event.record else {
            return false;
        };
        self.above == [(self.event.message, place.number)] && place.address == Some(field.number)
    }

    fn holds_address(&self, message: MessageIndex, seen: &mut Vec<MessageIndex>) -> bool {
        if seen.contains(&message) {
            return false;
        }
        seen.push(message);
        self.schema
            .at(message)
            .fields()
            .iter()
            .any(|field| match field.message() {
                Some(held) => self.schema.at(held).is_address || self.holds_address(held, seen),
                None => field.is_address_text(),
            })
    }
}

/// The field numbers of a path; a map gives two, for its keys and for its values.
fn numbers(schema: &Schema, message: MessageIndex, path: &str) -> Result<Vec<Vec<u32>>, ()> {
    let mut message = Some(message);
    let mut found: Vec<Vec<u32>> = Vec::new();
    let mut current = Vec::new();
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        let shape = schema.at(message.ok_or(())?);
        let field = shape.field_named(segment).ok_or(())?;
        current.push(field.number);
        message = field.message();
        let Some(entry) = message
            .map(|index| schema.at(index))
            .filter(|shape| shape.map_entry)
        else {
            continue;
        };
        if segments.peek().is_some() {
            found.push([current.as_slice(), &[MAP_KEY]].concat());
            current.push(MAP_VALUE);
            message = entry.field(MAP_VALUE).ok_or(())?.message();
        }
    }
    found.push(current);
    Ok(found)
}

const MAP_KEY: u32 = 1;
const MAP_VALUE: u32 = 2;

/// Adds the parts of a granted path that a mask shows in clear.
fn clear_paths<'p>(
    schema: &Schema,
    message: MessageIndex,
    mask: &Mask,
    above: &str,
    mut path: impl Iterator<Item = &'p str> + Clone,
    clear: &mut Vec<String>,
) {
    let wanted = path.next();
    for field in schema.at(message).fields() {
        if wanted.is_some_and(|name| name != field.name) {
            continue;
        }
        let name = if above.is_empty() {
            field.name.clone()
        } else {
            format!("{above}.{}", field.name)
        };
        match (mask.field(field.number), field.message()) {
            (None | Some(Mask::Token), _) => {}
            (Some(Mask::Whole), _) => {
                let rest = path
                    .clone()
                    .fold(name, |name, segment| format!("{name}.{segment}"));
                clear.push(rest);
            }
            (Some(sub @ Mask::Part(_)), Some(held)) => {
                let (sub, held) = through_map(schema, sub, held);
                clear_paths(schema, held, sub, &name, path.clone(), clear);
            }
            (Some(Mask::Part(_)), None) => {}
        }
    }
}

/// Steps over the entry of a map to its value.
fn through_map<'m>(
    schema: &Schema,
    mask: &'m Mask,
    message: MessageIndex,
) -> (&'m Mask, MessageIndex) {
    let shape = schema.at(message);
    let value = shape
        .field(MAP_VALUE)
        .filter(|_| shape.map_entry)
        .and_then(FieldShape::message);
    match (value, mask.field(MAP_VALUE)) {
        (Some(value), Some(mask)) => (mask, value),
        _ => (mask, message),
    }
}
