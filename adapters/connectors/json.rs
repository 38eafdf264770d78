//! JSON bodies in which absent, empty and given are three different things.
//! Built by the translations of the products that speak JSON.
//! A field that is untouched must never appear in the body, not even as `null`.
//! Read next: `http.rs`.

use musubi_adapter_sdk::Field;
use serde_json::{Map, Value};

use super::checks;

/// An object that is being built.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    /// Puts a value.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Puts a field: nothing when untouched, `null` when empty.
    pub(crate) fn field(&mut self, name: &str, field: Field<impl Into<Value>>) {
        match field.into_option() {
            None => {}
            Some(None) => self.put(name, Value::Null),
            Some(Some(value)) => self.put(name, value),
        }
    }

    /// Puts a text, where an empty one is `null`.
    pub(crate) fn text(&mut self, name: &str, field: Field<String>) {
        self.field(name, checks::text(field));
    }

    /// True when there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of members.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// True when all members are `null`.
    pub(crate) fn is_all_null(&self) -> bool {
        self.0.values().all(Value::is_null)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}
