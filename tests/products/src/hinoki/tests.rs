use std::fs;
use std::path::Path;

use encoding_rs::SHIFT_JIS;
use tempfile::TempDir;

use super::export::Manifest;
use super::night::Office;

const KEEP: &str = "0000000000000000000";
const NEW: &str = "0100110100000000000";

struct Exchange {
    folder: TempDir,
}

impl Exchange {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn open(&self) -> Office {
        Office::open(self.folder.path(), &self.folder.path().join("data"))
            .await
            .unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn hand_in(&self, sequence: u32, rows: &[Vec<u8>]) {
        let name = format!("in/NK20260302{sequence:06}");
        let bytes = rows.concat();
        fs::write(self.path(&format!("{name}.csv")), &bytes).unwrap();
        let manifest = Manifest::of(i64::try_from(rows.len()).unwrap(), &bytes).text();
        fs::write(self.path(&format!("{name}.mf")), manifest).unwrap();
    }

    /// The codes (with column) of a result, which is removed as a receiver does.
    fn take(&self, sequence: u32) -> Vec<String> {
        let name = format!("out/NK20260302{sequence:06}.kekka");
        let bytes = fs::read(self.path(&format!("{name}.csv"))).unwrap();
        let manifest = fs::read(self.path(&format!("{name}.mf"))).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let count = i64::try_from(text.lines().count()).unwrap();
        assert_eq!(
            Manifest::parse(&manifest),
            Some(Manifest::of(count, &bytes))
        );
        for ending in ["csv", "mf"] {
            fs::remove_file(self.path(&format!("{name}.{ending}"))).unwrap();
        }
        let part = |line: &str| {
            line.split(',')
                .skip(2)
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
        };
        text.lines()
            .map(|line| part(line).trim().replace("  ", " "))
            .collect()
    }
}

fn sjis(text: &str) -> Vec<u8> {
    let (bytes, _, unmappable) = SHIFT_JIS.encode(text);
    assert!(!unmappable);
    bytes.into_owned()
}

/// A record: number, key, operation, person, version, mask, and the columns from 7 that are set.
fn row(number: usize, key: &str, head: &str, mask: &str, values: &[(usize, &[u8])]) -> Vec<u8> {
    let mut columns = vec![Vec::new(); 25];
    columns[0] = format!("{number:06}").into_bytes();
    columns[1] = key.as_bytes().to_vec();
    for (column, value) in (2..).zip(head.split(' ')) {
        columns[column] = value.as_bytes().to_vec();
    }
    columns[5] = mask.as_bytes().to_vec();
    for (number, value) in values {
        columns[number - 1] = value.to_vec();
    }
    let mut line = columns.join(&b","[..]);
    line.extend_from_slice(b"\r\n");
    line
}

fn new(number: usize, key: &str, no: &str) -> Vec<u8> {
    let name = [&[0xF0, 0x40][..], &sjis("田　能登表")].concat();
    let values: [(usize, &[u8]); 4] = [(8, &name), (11, b"2"), (12, b"4070406"), (14, b"0")];
    row(number, key, &format!("10 {no} 1"), NEW, &values)
}

/// A mask that sets one column.
fn set(column: usize) -> String {
    let mut mask = KEEP.as_bytes().to_vec();
    mask[column - 7] = b'1';
    String::from_utf8(mask).unwrap()
}

#[tokio::test]
async fn several_changes_of_one_person_ride_in_one_file_in_order() {
    let exchange = Exchange::new();
    let mut office = exchange.open().await;
    let street = sjis("鎌倉山三丁目２０番１８号");
    let mut cleared = set(17);
    cleared.replace_range(1..2, "2");
    exchange.hand_in(
        1,
        &[
            new(1, "a", "001"),
            row(2, "b", "20 001 3", &set(17), &[(17, &street)]),
            row(3, "c", "20 001 5", &cleared, &[(17, &street)]),
            row(4, "c", "20 001 6", KEEP, &[]),
            row(5, "d", "20 001 5", KEEP, &[]),
            row(6, "e", "20 002 1", KEEP, &[]),
        ],
    );
    office.night().await.unwrap();
    assert_eq!(
        exchange.take(1),
        ["00 1", "00 3", "00 5", "01 5", "02 5", "03"]
    );
    assert!(fs::read_dir(exchange.path("in")).unwrap().next().is_none());

    office.night().await.unwrap();
    let ledger = fs::read(exchange.path("export/daicho.csv")).unwrap();
    let mut expected = b"001,5,,,,,2,4070406,,0,,,".to_vec();
    expected.extend_from_slice(&street);
    expected.extend_from_slice(b",,,,,,0,,\r\n");
    assert_eq!(ledger, expected);
    let manifest = fs::read_to_string(exchange.path("export/daicho.mf")).unwrap();
    assert!(manifest.ends_with("JISSEKI=3\r\n"), "{manifest}");
    let journal = fs::read_to_string(exchange.path("export/journal.csv")).unwrap();
    assert!(
        journal.ends_with("3,c,001,5,NK20260302000001,000003\r\n"),
        "{journal}"
    );
}

#[tokio::test]
async fn a_refused_record_names_its_column_and_holds_back_the_same_person() {
    let exchange = Exchange::new();
    let mut office = exchange.open().await;
    exchange.hand_in(1, &[new(1, "a", "1"), new(2, "b", "2"), new(3, "c", "3")]);
    office.night().await.unwrap();
    exchange.take(1);
    let long = sjis(&"鎌".repeat(301));
    let cases: [(&str, usize, &[u8], &str); 12] = [
        ("20", 8, &[0xF0, 0x80], "10 8"),
        ("20", 8, &[0x93], "10 8"),
        ("20", 18, b"a\tb", "10 18"),
        ("20", 18, &long, "11 18"),
        ("20", 8, b"YOSHIDA", "12 8"),
        ("20", 7, &[0x83, 0x41], "12 7"),
        ("20", 12, b"4310501", "13 12"),
        ("20", 12, b"3210229", "13 12"),
        ("20", 11, b"3", "14 11"),
        ("30", 8, &[0x93, 0x63], "15 6"),
        ("20", 15, b"248", "15 15"),
        ("20", 22, b"70000000", "14 22"),
    ];
    for (sequence, (operation, column, value, expected)) in (2..).zip(cases) {
        let head = format!("{operation} 1 9");
        let rows = [
            row(1, "x", &head, &set(column), &[(column, value)]),
            row(2, "y", "20 1 10", KEEP, &[]),
            row(
                3,
                &format!("z{sequence}"),
                &format!("20 2 {sequence}"),
                KEEP,
                &[],
            ),
        ];
        exchange.hand_in(sequence, &rows);
        office.night().await.unwrap();
        assert_eq!(
            exchange.take(sequence),
            [expected, "05", &format!("00 {sequence}")]
        );
    }
    let broken = b"000003,q,20\r\n".to_vec();
    let rows = [
        row(1, "p", "20 3 2", "x", &[]),
        row(7, "p", "20 1 2", KEEP, &[]),
        broken,
        row(4, "p", "10 4 2", &set(8), &[(8, &[0x93, 0x63])]),
    ];
    exchange.hand_in(90, &rows);
    office.night().await.unwrap();
    assert_eq!(exchange.take(90), ["15 6", "15 1", "15", "16 11"]);
}

#[tokio::test]
async fn a_day_outside_the_calendar_comes_with_its_wording() {
    let exchange = Exchange::new();
    let mut office = exchange.open().await;
    let wording = sjis("昭和２１年２月２９日");
    let mut mask = NEW.to_owned();
    mask.replace_range(6..7, "1");
    let values: [(usize, &[u8]); 5] = [
        (8, &wording),
        (11, b"1"),
        (12, b"3210229"),
        (13, &wording),
        (14, b"0"),
    ];
    exchange.hand_in(1, &[row(1, "a", "10 1 1", &mask, &values)]);
    office.night().await.unwrap();
    assert_eq!(exchange.take(1), ["00 1"]);
}

#[tokio::test]
async fn a_file_is_processed_once_also_after_a_kill_before_its_result() {
    let exchange = Exchange::new();
    let mut office = exchange.open().await;
    exchange.hand_in(1, &[new(1, "a", "1")]);
    office.night().await.unwrap();
    assert_eq!(exchange.take(1), ["00 1"]);
    drop(office);

    // As if the process had been killed after the commit: the request is still there.
    let journal = exchange.path("export/journal.csv");
    let whole = fs::read(&journal).unwrap();
    fs::write(&journal, &whole[..whole.len() - 5]).unwrap();
    exchange.hand_in(1, &[new(1, "a", "1")]);
    let mut office = exchange.open().await;
    office.night().await.unwrap();
    assert_eq!(exchange.take(1), ["00 1"]);
    assert_eq!(fs::read(&journal).unwrap(), whole);

    exchange.hand_in(1, &[new(1, "b", "2")]);
    office.night().await.unwrap();
    assert_eq!(exchange.take(1), ["90"]);
}

#[tokio::test]
async fn a_file_without_manifest_waits_and_a_wrong_manifest_is_told() {
    let exchange = Exchange::new();
    let mut office = exchange.open().await;
    fs::write(exchange.path("in/NK20260302000001.csv"), new(1, "a", "1")).unwrap();
    office.night().await.unwrap();
    assert!(!out_has(exchange.folder.path()));
    let manifest = "KENSU=2\r\nSHA256=00\r\n";
    fs::write(exchange.path("in/NK20260302000001.mf"), manifest).unwrap();
    office.night().await.unwrap();
    assert_eq!(exchange.take(1), ["91"]);
    exchange.hand_in(1, &[new(1, "a", "1")]);
    office.night().await.unwrap();
    assert_eq!(exchange.take(1), ["00 1"]);
}

fn out_has(folder: &Path) -> bool {
    fs::read_dir(folder.join("out")).unwrap().next().is_some()
}
