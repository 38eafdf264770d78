use super::*;

fn schema() -> Schema {
    Schema::load().expect("the built-in contracts load")
}

#[test]
fn event_types_are_the_messages_that_are_no_part_of_others() {
    let schema = schema();
    assert!(
        schema
            .event_type("musubi.standard.resident.v1.ResidentMovedIn")
            .is_some()
    );
    assert!(
        schema
            .event_type("musubi.standard.resident.v1.SupportMeasureEnded")
            .is_some()
    );
    for name in [
        "musubi.standard.common.v1.ResidentRecord",
        "musubi.standard.common.v1.Address",
        "musubi.standard.common.v1.RestrictedMarker",
        "musubi.hub.v1.Event",
        "google.protobuf.Timestamp",
        "ResidentMovedIn",
        "",
    ] {
        assert!(schema.event_type(name).is_none(), "{name}");
    }
    assert!(
        schema
            .event_types()
            .iter()
            .all(|name| name.starts_with("musubi.standard.resident."))
    );
}

#[test]
fn items_of_fields_are_read_from_the_option() {
    let schema = schema();
    let address = schema
        .message("musubi.standard.common.v1.Address")
        .expect("Address");
    assert!(address.is_address);
    let building = address.field_named("building").expect("building");
    assert_eq!(building.japanese, "住所_方書");
    assert_eq!(building.max_chars, 300);
    assert_eq!(building.kind, Kind::Text);
    assert!(!building.required);
    let person = schema
        .message("musubi.standard.common.v1.PersonRef")
        .expect("PersonRef");
    assert!(person.has_required);
    assert!(
        person
            .field_named("atenabango")
            .is_some_and(|field| field.required)
    );
}

#[test]
fn fields_are_found_by_number_with_and_without_gaps() {
    let schema = schema();
    for shape in schema
        .event_types()
        .iter()
        .filter_map(|name| schema.message(name))
    {
        for field in shape.fields() {
            assert_eq!(
                shape.field(field.number).map(|found| &found.name),
                Some(&field.name)
            );
        }
        assert!(shape.field(0).is_none());
        assert!(shape.field(100_000).is_none());
    }
}

#[test]
fn enums_know_their_numbers() {
    let schema = schema();
    let record = schema
        .message("musubi.standard.common.v1.ResidentRecord")
        .expect("record");
    let Some(Kind::Enum(gender)) = record.field_named("gender").map(|field| field.kind) else {
        panic!("gender is an enum");
    };
    let gender = schema.enum_at(gender);
    assert!(gender.knows(0) && gender.knows(1));
    assert!(!gender.knows(-1) && !gender.knows(99));
}

#[test]
fn events_show_the_places_that_the_hub_looks_at() {
    let schema = schema();
    let event = |name: &str| {
        schema
            .event_type(&format!("musubi.standard.resident.v1.{name}"))
            .expect("event")
            .clone()
    };
    let corrected = event("ResidentAttributesCorrected");
    assert_eq!(corrected.changed_fields, Some(2));
    assert_eq!(
        corrected.record,
        Some(RecordPlace {
            number: 1,
            required: true,
            protection: 29,
            level: 1,
            address: Some(18)
        })
    );
    let snapshot = event("ResidentSnapshotPublished");
    assert_eq!(snapshot.snapshot_part, Some(2));
    assert!(snapshot.record.is_some_and(|record| !record.required));
    let started = event("SupportMeasureStarted");
    assert_eq!(
        (
            started.record,
            started.changed_fields,
            started.snapshot_part
        ),
        (None, None, None)
    );
}
