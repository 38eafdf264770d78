use std::path::Path;

use musubi_proto::standard::common::v1::ResidentRecord;
use musubi_proto::standard::resident::v1::{MinorCorrectionMade, ResidentMovedIn};
use prost::Message;

use super::*;

const HEADER: &str =
    "event,receiver,purpose_ja,legal_basis,population,granted,protected_person_rule\n";
const MOVED_IN: &str = "musubi.standard.resident.v1.ResidentMovedIn";
const MINOR: &str = "musubi.standard.resident.v1.MinorCorrectionMade";

fn schema() -> Schema {
    Schema::load().expect("the built-in contracts load")
}

fn table(rows: &str) -> Result<GrantTable, GrantError> {
    GrantTable::parse(&schema(), &[("010.csv", &format!("{HEADER}{rows}"))])
}

fn rule(rows: &str) -> (u64, GrantRule) {
    let error = table(rows).expect_err("the table is refused");
    assert_eq!(error.file, "010.csv");
    (error.line, error.rule)
}

#[test]
fn built_in_tables_grant_what_they_list_and_nothing_else() {
    let table = GrantTable::builtin(&schema()).expect("the built-in grants are right");
    assert_eq!(table.systems(), ["010", "024", "026"]);
    let grant = table.grant("026", MOVED_IN).expect("granted");
    assert!(grant.paths.iter().any(|path| path == "record.address"));
    assert!(!grant.purpose.is_empty() && !grant.legal_basis.is_empty());
    assert!(
        table
            .grant("026", "musubi.standard.resident.v1.ResidentBorn")
            .is_none()
    );
    assert!(table.grant("001", MOVED_IN).is_none());
    assert!(table.grant("010", "ResidentMovedIn").is_none());
}

#[test]
fn the_text_of_a_table_gives_the_same_table_back() {
    let schema = schema();
    let table = GrantTable::builtin(&schema).expect("the built-in grants are right");
    let text = table.to_text();
    let again = GrantTable::from_text(&schema, &text).expect("the text is a table");
    assert_eq!(again, table);
    assert_eq!(again.to_text(), text);
    assert_eq!(again.digest(), table.digest());
    assert_eq!(table.digest().len(), 64);
}

#[test]
fn the_text_does_not_depend_on_the_order_of_rows_or_on_quotes() {
    let one = format!("{MOVED_IN},010,用途,法,all,record.person; from_abroad,P3\n");
    let other = format!("{MINOR},010,\"用,途\",法,all,record.person,P3\n");
    let quoted = one.replace("用途", "\"用途\"");
    let forward = table(&format!("{one}{other}")).expect("a table");
    let backward = table(&format!("{other}{quoted}")).expect("a table");
    assert_eq!(forward.to_text(), backward.to_text());
    let changed = table(&one).expect("a table");
    assert_ne!(changed.digest(), forward.digest());
}

#[test]
fn wrong_rows_are_refused_with_line_and_rule() {
    let moved_in = |paths: &str, rule: &str| format!("{MOVED_IN},010,用途,法,all,{paths},{rule}\n");
    let right = moved_in("record.person", "P3");
    assert_eq!(
        rule("x.Unknown,010,用途,法,all,record,P3\n"),
        (2, GrantRule::UnknownEvent("x.Unknown".to_owned()))
    );
    assert_eq!(
        rule(&format!("{right}{right}")),
        (
            3,
            GrantRule::ReceiverTwice {
                event: MOVED_IN.to_owned(),
                receiver: "010".to_owned()
            }
        )
    );
    for path in [
        "record.nothing",
        "record.address.town.x",
        "record.",
        "",
        "record..person",
    ] {
        let (_, broken) = rule(&moved_in(&format!("from_abroad; {path}x"), "P3"));
        assert_eq!(broken, GrantRule::UnknownPath(format!("{path}x")));
    }
    assert_eq!(rule(&moved_in("", "P3")).1, GrantRule::NoPaths);
    assert_eq!(
        rule(&moved_in("record.person; record.person", "P3")).1,
        GrantRule::PathTwice("record.person".to_owned())
    );
    assert_eq!(
        rule(&moved_in("record.address", "P1")).1,
        GrantRule::AddressWithoutProtection
    );
    assert_eq!(
        rule(&moved_in("record.previous_address.country_code", "P2")).1,
        GrantRule::AddressWithoutProtection
    );
    assert_eq!(
        rule(&moved_in("record.protection; record.address", "P3")).1,
        GrantRule::OtherProtectedRule { expected: "P1" }
    );
    assert_eq!(
        rule(&moved_in("record", "P1")).1,
        GrantRule::OtherProtectedRule { expected: "P1+P2" }
    );
    assert_eq!(
        rule(&moved_in("record.person", "P9")).1,
        GrantRule::UnknownProtectedRule("P9".to_owned())
    );
}

#[test]
fn wrong_cells_and_files_are_refused() {
    let row = |cells: &str| format!("{MOVED_IN},{cells}\n");
    assert_eq!(
        rule(&row("010,,法,all,record.person,P3")).1,
        GrantRule::Empty("purpose_ja")
    );
    assert_eq!(
        rule(&row("010,用途, ,all,record.person,P3")).1,
        GrantRule::Empty("legal_basis")
    );
    assert_eq!(
        rule(&row("010,用途,法,,record.person,P3")).1,
        GrantRule::Empty("population")
    );
    assert_eq!(rule(&row("010,用途,法,all")), (2, GrantRule::Csv));
    assert_eq!(
        rule(&row("10,用途,法,all,record.person,P3")).1,
        GrantRule::InvalidReceiver("10".to_owned())
    );
    assert_eq!(
        rule(&row("026,用途,法,all,record.person,P3")).1,
        GrantRule::ForeignReceiver("026".to_owned())
    );
    let schema = schema();
    let missing = GrantTable::parse(&schema, &[("a.csv", "event,receiver\n")]);
    assert_eq!(
        missing.map_err(|error| error.rule),
        Err(GrantRule::MissingColumn("purpose_ja"))
    );
    let unknown = GrantTable::parse(&schema, &[("a.csv", "event,recipient\n")]);
    let error = unknown.expect_err("the column is unknown");
    assert_eq!(
        error.to_string(),
        "`a.csv` line 1: the column `recipient` is not known or stands twice"
    );
}

#[test]
fn a_protected_person_is_shown_without_addresses_where_the_flag_is_not_held() {
    let paths = "record.person; record.address; record.previous_address.municipality_code; \
                 record.deletion; record.protection; from_abroad";
    let row = format!("{MOVED_IN},010,用途,法,all,{paths},P1+P2\n");
    let table = table(&row).expect("a table");
    let grant = table.grant("010", MOVED_IN).expect("granted");
    let below_deletion = [
        "reason",
        "occurred_on",
        "scheduled_out_on",
        "notified_on",
        "notice_on",
        "moved_out_on",
        "deleted_on",
    ]
    .map(|name| format!("record.deletion.{name}"));
    let others = ["record.protection".to_owned(), "from_abroad".to_owned()];
    let blind = [&["record.person".to_owned()], &below_deletion[..], &others].concat();
    assert_eq!(grant.blind.paths, blind);
    let mut guarded = blind;
    guarded.insert(1, "record.address".to_owned());
    assert_eq!(grant.guarded.paths, guarded);
    assert_eq!(grant.open.paths, grant.paths);
}

#[test]
fn texts_that_say_where_somebody_lived_are_withheld_like_addresses() {
    let event = "musubi.standard.resident.v1.ResidentMovedWithin";
    let row = format!("{event},010,用途,法,all,record.protection; ward_from; ward_change,P2\n");
    let table = table(&row).expect("a table");
    let grant = table.grant("010", event).expect("granted");
    assert_eq!(grant.guarded.paths, ["record.protection", "ward_change"]);
    assert_eq!(grant.blind.paths, ["record.protection", "ward_change"]);
    assert_eq!(grant.guarded.mask.field(9), None);
}

#[test]
fn a_correction_concerns_a_receiver_only_where_paths_touch() {
    let schema = schema();
    let paths = "record.person; record.name; record.foreign.category; changed_fields";
    let table = table(&format!("{MINOR},010,用途,法,all,{paths},P3\n")).expect("a table");
    let grant = table.grant("010", MINOR).expect("granted");
    let concerns = |changed: &[&str]| {
        let event = MinorCorrectionMade {
            record: Some(ResidentRecord::default()),
            changed_fields: changed.iter().map(|path| (*path).to_owned()).collect(),
            ..Default::default()
        };
        grant.concerns(&schema, &event.encode_to_vec())
    };
    for (changed, expected) in [
        (&["name"][..], true),
        (&["name.furigana"], true),
        (&["record.name.furigana"], true),
        (&["foreign"], true),
        (&["address", "foreign.category"], true),
        (&["address"], false),
        (&["record.address.building"], false),
        (&["foreign.period_of_stay", "address"], false),
        (&["name_priority"], false),
        // What cannot be judged is delivered; projection still withholds what is not granted.
        (&[], true),
        (&["住所"], true),
        (&["address", "no_such_field"], true),
    ] {
        assert_eq!(concerns(changed), expected, "{changed:?}");
    }
    assert!(grant.concerns(&schema, &[0x12, 0x05]));
}

#[test]
fn other_events_always_concern_their_receivers() {
    let schema = schema();
    let table = table(&format!("{MOVED_IN},010,用途,法,all,from_abroad,P3\n")).expect("a table");
    let grant = table.grant("010", MOVED_IN).expect("granted");
    assert!(grant.concerns(&schema, &ResidentMovedIn::default().encode_to_vec()));
}

#[test]
fn of_a_message_inside_itself_a_protected_person_shows_only_the_outer_one() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [here.join("src/grants/tests"), here.join("../proto")];
    let mut compiler = protox::Compiler::new(folders).expect("a compiler");
    compiler
        .open_file("nested.proto")
        .expect("the file compiles");
    let mut pool = musubi_proto::descriptor_pool();
    pool.add_file_descriptor_set(compiler.file_descriptor_set())
        .expect("it joins the pool");
    let schema = Schema::from_pool(&pool).expect("the contract loads");
    let event = schema.event_type("musubi.standard.nested.v1.HouseholdMoved");
    let event = event.expect("an event");

    let paths = ["household".to_owned()];
    let open = mask::open(&schema, event, &paths).expect("the path exists");
    let view = mask::protected(&schema, event, &open, &paths, mask::Holding::Flag);
    let part = |fields: &[(u32, Mask)]| Mask::Part(fields.to_vec());
    let household = part(&[
        (1, Mask::Whole),
        (2, Mask::Token),
        (4, part(&[(2, Mask::Whole)])),
        // Nothing in it can be an address, however deep.
        (5, Mask::Whole),
    ]);
    assert_eq!(view.mask, part(&[(1, household)]));
    let shown = ["household.note", "household.branch.note", "household.tree"];
    assert_eq!(view.paths, shown);
}
