//! Reader of the protobuf wire format, field by field, over borrowed bytes.
//! Used by validation and by projection, so that both see the same fields in the same bytes.
//! Must never accept what a strict decoder refuses, and never copy or allocate.
//! Read next: `publish/validate.rs`, then `project.rs`.

use super::{Encoding, FieldShape};

/// Largest field number of the wire format.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;
/// Most bytes of a varint.
const VARINT_BYTES_MAX: usize = 10;

/// Why bytes are not the wire form of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// A varint or a fixed value has no end.
    #[error("the bytes end inside a value")]
    Truncated,
    /// A varint does not fit 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// The tag is no tag: number 0, too large, or a wire type that does not exist.
    #[error("a field tag is not valid")]
    InvalidTag,
    /// A length points behind the end.
    #[error("a length reaches over the end")]
    LengthOverEnd,
    /// Groups of the wire format are not part of proto3.
    #[error("groups of the wire format are not accepted")]
    Group,
    /// The value is encoded in another way than the field's type asks for.
    #[error("the encoding does not fit the field's type")]
    WrongEncoding,
    /// Messages are nested deeper than the limit.
    #[error("messages are nested too deep")]
    TooDeep,
}

/// One value as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireValue<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64,
    /// Wire type 2: string, bytes, message or packed list.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32,
}

/// One occurrence of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireField<'a> {
    /// Field number.
    pub number: u32,
    /// Its value.
    pub value: WireValue<'a>,
    /// The tag's bytes.
    pub tag: &'a [u8],
    /// All bytes of the occurrence, tag included, as they stand.
    pub raw: &'a [u8],
}

/// Iterates over the fields of one message; stops after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the fields of a message's bytes.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn read(&mut self) -> Result<WireField<'a>, WireError> {
        let start = self.rest;
        let mut rest = start;
        let key = take_varint(&mut rest)?;
        let number = key >> 3;
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(WireError::InvalidTag);
        }
        let tag = before(start, rest);
        let value = match key & 7 {
            0 => WireValue::Varint(take_varint(&mut rest)?),
            1 => take(&mut rest, 8)
                .map(|_| WireValue::Fixed64)
                .ok_or(WireError::Truncated)?,
            2 => {
                let length = take_varint(&mut rest)?;
                let length = usize::try_from(length).map_err(|_| WireError::LengthOverEnd)?;
                WireValue::Bytes(take(&mut rest, length).ok_or(WireError::LengthOverEnd)?)
            }
            3 | 4 => return Err(WireError::Group),
            5 => take(&mut rest, 4)
                .map(|_| WireValue::Fixed32)
                .ok_or(WireError::Truncated)?,
            _ => return Err(WireError::InvalidTag),
        };
        self.rest = rest;
        Ok(WireField {
            number: number as u32,
            value,
            tag,
            raw: before(start, rest),
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<WireField<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Checks that an occurrence is encoded as its field's type asks for. A repeated number may
/// come packed or not; a packed list is checked to its end.
pub fn check_encoding(field: &FieldShape, value: WireValue<'_>) -> Result<(), WireError> {
    match (field.encoding(), value) {
        (Encoding::Varint, WireValue::Varint(_))
        | (Encoding::Fixed64, WireValue::Fixed64)
        | (Encoding::Fixed32, WireValue::Fixed32)
        | (Encoding::Bytes, WireValue::Bytes(_)) => Ok(()),
        (Encoding::Varint, WireValue::Bytes(list)) if field.repeated => {
            Varints::new(list).try_for_each(|value| value.map(|_| ()))
        }
        (Encoding::Fixed64, WireValue::Bytes(list)) if field.repeated => whole(list, 8),
        (Encoding::Fixed32, WireValue::Bytes(list)) if field.repeated => whole(list, 4),
        _ => Err(WireError::WrongEncoding),
    }
}

/// Iterates over the varints of a packed list; stops after the first error.
#[derive(Clone, Debug)]
pub struct Varints<'a> {
    rest: &'a [u8],
}

impl<'a> Varints<'a> {
    /// Reads the values of a packed list.
    pub fn new(list: &'a [u8]) -> Self {
        Self { rest: list }
    }
}

impl Iterator for Varints<'_> {
    type Item = Result<u64, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = take_varint(&mut self.rest);
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn whole(list: &[u8], width: usize) -> Result<(), WireError> {
    if list.len().is_multiple_of(width) {
        Ok(())
    } else {
        Err(WireError::Truncated)
    }
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0_u64;
    for (index, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
        // The tenth byte has room for one bit.
        if index == VARINT_BYTES_MAX - 1 && byte > 1 {
            return Err(WireError::VarintTooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(WireError::Truncated)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// The bytes of `start` that were read when `rest` is left.
fn before<'a>(start: &'a [u8], rest: &[u8]) -> &'a [u8] {
    &start[..start.len() - rest.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Result<Vec<u32>, WireError> {
        Fields::new(data)
            .map(|field| field.map(|field| field.number))
            .collect()
    }

    #[test]
    fn well_formed_fields_are_read_in_order() {
        let data = [
            0x08, 0x01, 0x12, 0x02, 0xff, 0xff, 0x1d, 0, 0, 0, 0, 0x21, 1, 2, 3, 4, 5, 6, 7, 8,
        ];
        assert_eq!(read(&data), Ok(vec![1, 2, 3, 4]));
        assert_eq!(read(&[]), Ok(vec![]));
        // A varint may be padded as long as it fits.
        assert_eq!(read(&[0x88, 0x00, 0x81, 0x80, 0x00]), Ok(vec![1]));
    }

    #[test]
    fn malformed_bytes_name_what_is_wrong() {
        let eleven = [&[0x08][..], &[0xff; 10], &[0x01]].concat();
        let overflow = [&[0x08][..], &[0xff; 9], &[0x02]].concat();
        let cases: &[(&[u8], WireError)] = &[
            (&[0x08], WireError::Truncated),
            (&[0x08, 0x80], WireError::Truncated),
            (&[0x80], WireError::Truncated),
            (&eleven, WireError::VarintTooLong),
            (&overflow, WireError::VarintTooLong),
            (&[0x00, 0x00], WireError::InvalidTag),
            (&[0x0e], WireError::InvalidTag),
            (&[0x0f], WireError::InvalidTag),
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0x00], WireError::InvalidTag),
            (&[0x12, 0x03, 0x01, 0x02], WireError::LengthOverEnd),
            (
                &[
                    0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                WireError::LengthOverEnd,
            ),
            (&[0x0b, 0x0c], WireError::Group),
            (&[0x0c], WireError::Group),
            (&[0x0d, 0x00, 0x00], WireError::Truncated),
            (&[0x09, 0x00, 0x00, 0x00, 0x00], WireError::Truncated),
        ];
        for (data, error) in cases {
            assert_eq!(read(data), Err(*error), "{data:02x?}");
        }
    }

    #[test]
    fn written_varints_are_read_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Varints::new(&out).collect::<Vec<_>>(), [Ok(value)]);
        }
    }
}
