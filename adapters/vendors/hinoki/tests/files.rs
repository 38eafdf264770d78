//! The exchange folder around a crash.
//! Files are made as a crash leaves them; the stand-in product is not needed.
//! Nothing here may depend on the day on which it runs.
//! Read next: `night.rs`.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::vendors::hinoki::answer::Outcome;
use crate::vendors::hinoki::folder::{FileName, Folder};
use crate::vendors::hinoki::row::{Cell, Row};

fn exchange() -> (TempDir, Folder) {
    let root = tempfile::tempdir().unwrap();
    for name in ["in", "out"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let folder = Folder::new(root.path());
    (root, folder)
}

fn record(key: &str) -> (String, Row) {
    let mut row = Row::new("1".to_owned(), 2, false);
    row.put(10, Cell::Set(vec![0x82, 0xa0]));
    row.put(9, Cell::Set(b"A,\"B\"".to_vec()));
    (key.to_owned(), row)
}

fn name(day: u32, number: u32) -> FileName {
    (1..number).fold(FileName::default().next(day).unwrap(), |name, _| {
        name.next(day).unwrap()
    })
}

fn listed(root: &Path, folder: &str) -> Vec<String> {
    crate::connectors::files::names(&root.join(folder)).unwrap()
}

#[test]
fn a_request_is_written_with_its_manifest_and_its_name_is_remembered() {
    let (root, folder) = exchange();
    folder
        .write(name(20_260_302, 2), &[record("k1"), record("k2")])
        .unwrap();
    assert_eq!(
        listed(root.path(), "in"),
        ["NK20260302000002.csv", "NK20260302000002.mf"]
    );
    let file = fs::read(root.path().join("in/NK20260302000002.csv")).unwrap();
    let line = b"000001,k1,20,1,2,0011000000000000000,,,\"A,\"\"B\"\"\",\x82\xa0,";
    assert_eq!(&file[..line.len()], line);
    assert!(file.ends_with(b"\r\n"));
    let manifest = fs::read_to_string(root.path().join("in/NK20260302000002.mf")).unwrap();
    assert!(manifest.starts_with("KENSU=2\r\nSHA256="), "{manifest}");
    let found = folder.recover().unwrap();
    assert_eq!(found.last, name(20_260_302, 2));
    assert_eq!(found.open[0].keys, ["k1", "k2"]);
}

#[test]
fn names_go_on_after_a_crash_and_unfinished_files_go() {
    let (root, folder) = exchange();
    folder.write(name(20_260_302, 7), &[record("k1")]).unwrap();
    for left in ["in/NK20260302000007.csv", "in/NK20260302000007.mf"] {
        fs::remove_file(root.path().join(left)).unwrap();
    }
    for left in ["in/tmp-NK20260302000009.csv", "in/NK20260302000008.csv"] {
        fs::write(root.path().join(left), "half").unwrap();
    }
    let found = folder.recover().unwrap();
    assert!(found.open.is_empty());
    assert!(listed(root.path(), "in").is_empty());
    assert_eq!(found.last.next(20_260_301), Some(name(20_260_302, 9)));
    assert_eq!(found.last.next(20_260_303), Some(name(20_260_303, 1)));
}

#[test]
fn a_result_is_read_when_it_is_what_its_manifest_says() {
    let (root, folder) = exchange();
    let out = |ending: &str| {
        root.path()
            .join(format!("out/NK20260302000001.kekka{ending}"))
    };
    let result = "000001,k1,00,,4,1\r\n000002,k2,10,8,,1\r\n";
    fs::write(out(".csv"), result).unwrap();
    assert!(folder.finished().unwrap().is_empty());
    fs::write(out(".mf"), "KENSU=2\r\nSHA256=00\r\n").unwrap();
    assert_eq!(folder.finished().unwrap(), [name(20_260_302, 1)]);
    assert_eq!(folder.result(name(20_260_302, 1)).unwrap(), None);
    let digest = <sha2::Sha256 as sha2::Digest>::digest(result.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(out(".mf"), format!("KENSU=2\r\nSHA256={hex}\r\n")).unwrap();
    let records = folder.result(name(20_260_302, 1)).unwrap().unwrap();
    assert_eq!(records[1].key, "k2");
    let Outcome::Result { code, column, held } = &records[1].outcome else {
        panic!("no result")
    };
    assert_eq!((code.as_str(), column.as_str(), *held), ("10", "8", None));
    let found = folder.recover().unwrap();
    assert_eq!(found.open[0].keys, ["k1", "k2"]);
    folder.discard(name(20_260_302, 1)).unwrap();
    assert!(listed(root.path(), "out").is_empty());
}
