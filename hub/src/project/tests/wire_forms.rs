//! Forms of the wire format, on a contract made for it.

use std::path::Path;

use prost_reflect::DescriptorPool;

use super::*;

pub(super) const FORMS: &str = "musubi.standard.sample.v1.Forms";

/// The built-in contracts with the sample beside them.
pub(super) fn sample_pool() -> DescriptorPool {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pool = musubi_proto::descriptor_pool();
    let folders = [here.join("src/project/tests"), here.join("../proto")];
    let mut compiler = protox::Compiler::new(folders).expect("a compiler");
    compiler
        .open_file("sample.proto")
        .expect("the sample compiles");
    pool.add_file_descriptor_set(compiler.file_descriptor_set())
        .expect("it joins the pool");
    pool
}

pub(super) fn sample() -> Schema {
    Schema::from_pool(&sample_pool()).expect("the sample loads")
}

fn projected(paths: &str, data: &[u8]) -> Result<Vec<u8>, WireError> {
    let schema = sample();
    let grant = grant(&schema, FORMS, paths);
    match project(&schema, &grant, data, &HOLDS, false, &token) {
        Ok(projected) => Ok(projected.data),
        Err(ProjectError::Malformed { source, .. }) => Err(source),
        Err(error) => panic!("{error}"),
    }
}

/// One field with a length.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number << 3 | 2));
    put_varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

#[test]
fn granted_bytes_pass_verbatim_however_they_are_written() {
    let padded_tag = [0x88, 0x80, 0x00, 0x05];
    let padded_value = [0x08, 0x85, 0x80, 0x00];
    // A padded length in front of a message that loses nothing.
    let padded_length = [0x72, 0x83, 0x00, 0x0a, 0x01, b'x'];
    let data = [&padded_tag[..], &padded_value, &padded_length].concat();
    assert_eq!(projected("number; part", &data), Ok(data.clone()));
}

#[test]
fn unknown_numbers_are_withheld_at_every_depth() {
    let known = field(1, b"open");
    let unknown = field(77, b"hidden");
    let part = [known.clone(), unknown.clone()].concat();
    let inner = [known.clone(), field(3, &part), unknown.clone()].concat();
    let data = [field(14, &inner), unknown, vec![0xf8, 0x06, 0x01]].concat();
    let expected = field(14, &[known.clone(), field(3, &known)].concat());
    assert_eq!(projected("part", &data), Ok(expected));
}

#[test]
fn a_field_that_occurs_twice_is_projected_twice_in_order() {
    let first = field(14, &[field(1, b"a"), field(2, b"secret")].concat());
    let second = field(14, &[field(2, b"secret"), field(1, b"b")].concat());
    let data = [first, vec![0x08, 0x01], second, vec![0x08, 0x02]].concat();
    let expected = [
        field(14, &field(1, b"a")),
        vec![0x08, 0x01],
        field(14, &field(1, b"b")),
        vec![0x08, 0x02],
    ]
    .concat();
    assert_eq!(projected("number; part.open", &data), Ok(expected));
}

#[test]
fn lists_pass_packed_and_not_packed() {
    let packed = field(6, &[0x01, 0xff, 0x01]);
    let single = vec![0x30, 0x07];
    let narrow = field(7, &[0; 8]);
    let texts = [field(8, b"a"), field(8, b"")].concat();
    let data = [packed, single, narrow, texts].concat();
    assert_eq!(
        projected("numbers; packed_narrow; texts", &data),
        Ok(data.clone())
    );
    assert_eq!(
        projected("texts", &data),
        Ok([field(8, b"a"), field(8, b"")].concat())
    );
}

#[test]
fn list_elements_keep_their_places_even_when_nothing_of_them_passes() {
    let data = [field(15, &field(2, b"s")), field(15, &field(1, b"o"))].concat();
    let expected = [field(15, b""), field(15, &field(1, b"o"))].concat();
    assert_eq!(projected("list.open", &data), Ok(expected));
}

#[test]
fn a_single_message_of_which_nothing_passes_is_not_shown() {
    assert_eq!(
        projected("part.open", &field(14, &field(2, b"s"))),
        Ok(vec![])
    );
    assert_eq!(projected("part", &field(14, b"")), Ok(field(14, b"")));
}

#[test]
fn entries_of_maps_keep_their_keys_and_lose_what_is_not_granted() {
    let value = [field(1, b"o"), field(2, b"s")].concat();
    let entry = |value: &[u8]| [vec![0x08, 0x05], field(2, value)].concat();
    let unknown = [entry(&value), field(3, b"hidden")].concat();
    let data = [field(9, &field(1, b"k")), field(10, &unknown)].concat();
    assert_eq!(
        projected("parts.open", &data),
        Ok(field(10, &entry(&field(1, b"o"))))
    );
    assert_eq!(projected("parts", &data), Ok(field(10, &entry(&value))));
    assert_eq!(projected("labels", &data), Ok(field(9, &field(1, b"k"))));
}

#[test]
fn a_member_of_a_oneof_that_was_replaced_stays_replaced() {
    let text = field(11, b"old");
    let number = vec![0x60, 0x01];
    let part = field(13, &field(1, b"new"));
    let all = [text.clone(), number.clone(), part.clone()].concat();
    // The last member is not granted, so nothing of the oneof is left.
    assert_eq!(projected("choice_text; choice_number", &all), Ok(vec![]));
    assert_eq!(
        projected("choice_text; choice_part", &all),
        Ok(part.clone())
    );
    // A message member begins anew after another member.
    let again = [part.clone(), number, part.clone(), part.clone()].concat();
    assert_eq!(
        projected("choice_part", &again),
        Ok([part.clone(), part].concat())
    );
    // The other oneof does not mind.
    let both = [field(16, b"kept"), text].concat();
    assert_eq!(projected("other_text", &both), Ok(field(16, b"kept")));
}

#[test]
fn malformed_payloads_are_refused() {
    let deep = (0..=PAYLOAD_DEPTH_MAX).fold(Vec::new(), |inner, _| field(3, &inner));
    let cases: &[(&str, Vec<u8>, WireError)] = &[
        ("number", vec![0x0b, 0x0c], WireError::Group),
        ("part", field(14, &[0x0b, 0x0c]), WireError::Group),
        ("number", vec![0x0a, 0x00], WireError::WrongEncoding),
        ("number", vec![0x70, 0x01], WireError::WrongEncoding),
        ("maybe", field(20, &[0x01]), WireError::WrongEncoding),
        ("texts", vec![0x40, 0x01], WireError::WrongEncoding),
        ("wide", vec![0x1d, 0, 0, 0, 0], WireError::WrongEncoding),
        ("numbers", field(6, &[0x80]), WireError::Truncated),
        ("numbers", field(6, &[0xff; 11]), WireError::VarintTooLong),
        ("packed_narrow", field(7, &[0; 5]), WireError::Truncated),
        ("part", vec![0x72, 0x05, 0x0a], WireError::LengthOverEnd),
        ("part", field(14, &[0x0a, 0x05]), WireError::LengthOverEnd),
        ("part", field(14, &deep), WireError::TooDeep),
        ("number", vec![0x08], WireError::Truncated),
    ];
    for (paths, data, error) in cases {
        assert_eq!(projected(paths, data), Err(*error), "{paths} {data:02x?}");
    }
}

#[test]
fn depth_up_to_the_limit_passes() {
    let deep = (0..PAYLOAD_DEPTH_MAX - 1).fold(Vec::new(), |inner, _| field(3, &inner));
    let data = field(14, &deep);
    assert_eq!(projected("part", &data), Ok(data.clone()));
}

#[test]
fn addresses_in_lists_and_maps_become_tokens() {
    let schema = sample();
    let grant = grant(
        &schema,
        FORMS,
        "addresses; address_map; number; record.protection",
    );
    let home = address("hidden").encode_to_vec();
    let entry = [field(1, b"k"), field(2, &home)].concat();
    let data = [field(18, &home), field(18, &home), field(19, &entry)].concat();
    let withheld = withheld(token(&home));
    let projected = project(&schema, &grant, &data, &HOLDS, true, &token).expect("projected");
    let entry = [field(1, b"k"), field(2, &withheld)].concat();
    let expected = [
        field(18, &withheld),
        field(18, &withheld),
        field(19, &entry),
    ]
    .concat();
    assert_eq!(projected.data, expected);
    assert_eq!(projected.granted_paths, ["number", "record.protection"]);
    let projected = project(&schema, &grant, &data, &CANNOT_HOLD, true, &token).expect("projected");
    assert!(projected.data.is_empty());
    assert_eq!(projected.granted_paths, ["number", "record.protection"]);
}
