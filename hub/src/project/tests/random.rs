//! Random payloads on the wire and random grants, from a seed.
//! Payloads use every freedom of the wire format: order, repeats, padding, packed lists,
//! numbers that the contract does not know. Every text is a canary that occurs once.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::*;

/// A text of a payload and the path where it stands; `None` below an unknown number.
#[derive(Debug)]
pub(super) struct Canary {
    pub(super) text: String,
    pub(super) path: Option<String>,
    /// The text is the key of the map at the path.
    pub(super) is_key: bool,
}

/// Splitmix64.
pub(super) struct Random {
    state: u64,
    pub(super) canaries: Vec<Canary>,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            canaries: Vec::new(),
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, limit: usize) -> bool {
        self.below(limit) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// The bytes of a message.
    pub(super) fn message(
        &mut self,
        message: &MessageDescriptor,
        path: &str,
        depth: usize,
    ) -> Vec<u8> {
        let mut chunks = Vec::new();
        for field in message.fields() {
            let occurrences = match self.below(8) {
                // A decoder makes up the value of an entry that has none.
                0..=2 if !message.is_map_entry() => 0,
                0..=6 => 1,
                _ => 2,
            };
            let is_message = field.kind().as_message().is_some();
            for _ in 0..occurrences {
                if !(is_message && depth > 4) {
                    chunks.push(self.field(message, &field, path, depth));
                }
            }
        }
        if self.one_in(3) {
            chunks.push(self.unknown(message));
        }
        self.shuffle(&mut chunks);
        chunks.concat()
    }

    fn field(
        &mut self,
        message: &MessageDescriptor,
        field: &FieldDescriptor,
        above: &str,
        depth: usize,
    ) -> Vec<u8> {
        let path = match (message.is_map_entry(), above.is_empty()) {
            // A path steps over the entry of a map.
            (true, _) => above.to_owned(),
            (false, true) => field.name().to_owned(),
            (false, false) => format!("{above}.{}", field.name()),
        };
        let is_key = message.is_map_entry() && field.number() == 1;
        let content = match field.kind() {
            Kind::Message(held) => self.message(&held, &path, depth + 1),
            Kind::String => self.canary(Some(path), is_key),
            Kind::Bytes => self.next().to_le_bytes().to_vec(),
            kind => return self.number(field, &kind),
        };
        self.with_length(field.number(), &content)
    }

    fn canary(&mut self, path: Option<String>, is_key: bool) -> Vec<u8> {
        let text = format!("«{}»", self.canaries.len());
        self.canaries.push(Canary {
            text: text.clone(),
            path,
            is_key,
        });
        text.into_bytes()
    }

    fn number(&mut self, field: &FieldDescriptor, kind: &Kind) -> Vec<u8> {
        let wire_type = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
            _ => 0,
        };
        if field.is_list() && self.one_in(2) {
            let values = self.below(4);
            let list: Vec<u8> = (0..values).flat_map(|_| self.single(wire_type)).collect();
            return self.with_length(field.number(), &list);
        }
        let mut out = self.varint(u64::from(field.number() << 3 | wire_type));
        out.extend(self.single(wire_type));
        out
    }

    fn single(&mut self, wire_type: u32) -> Vec<u8> {
        match wire_type {
            // A float that is no number is not equal to itself.
            1 => (self.below(1000) as f64).to_le_bytes().to_vec(),
            5 => (self.below(1000) as f32).to_le_bytes().to_vec(),
            _ => {
                let value = if self.one_in(4) {
                    self.next()
                } else {
                    self.below(4) as u64
                };
                self.varint(value)
            }
        }
    }

    /// A number that the contract does not know, with a canary in it.
    fn unknown(&mut self, message: &MessageDescriptor) -> Vec<u8> {
        let number = loop {
            let number = 1 + self.below(3000) as u32;
            if message.get_field(number).is_none() {
                break number;
            }
        };
        let canary = self.canary(None, false);
        let text = self.with_length(number, &canary);
        let mut value = self.varint(u64::from(number << 3));
        value.extend(self.varint(7));
        if self.one_in(2) {
            text
        } else {
            [value, text].concat()
        }
    }

    fn with_length(&mut self, number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = self.varint(u64::from(number << 3 | 2));
        out.extend(self.varint(content.len() as u64));
        out.extend_from_slice(content);
        out
    }

    /// A varint, now and then longer than it has to be.
    fn varint(&mut self, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        if out.len() < 9 && self.one_in(8) {
            let last = out.len() - 1;
            out[last] |= 0x80;
            out.push(0);
        }
        out
    }

    /// Some paths of a message, at any depth, always with the protection.
    pub(super) fn paths(&mut self, message: &MessageDescriptor) -> Vec<String> {
        let mut paths = vec!["record.protection".to_owned()];
        for _ in 0..1 + self.below(12) {
            let path = self.path(message);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    fn path(&mut self, message: &MessageDescriptor) -> String {
        let mut message = message.clone();
        let mut path = String::new();
        loop {
            let fields: Vec<_> = message.fields().collect();
            let field = &fields[self.below(fields.len())];
            path.push_str(field.name());
            let held = match field.kind() {
                Kind::Message(entry) if entry.is_map_entry() => {
                    entry.map_entry_value_field().kind()
                }
                kind => kind,
            };
            match held {
                Kind::Message(held) if !self.one_in(3) => message = held,
                _ => return path,
            }
            path.push('.');
        }
    }
}
