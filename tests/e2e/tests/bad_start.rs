//! A start that cannot be: one clear line, a status that is not 0, and nothing like a crash.
//! What an operator sees after a typo, a second hub, or a step back to an older version.
//! Must never accept a line that does not name the thing that is wrong.
//! Read next: `cli/src/failure.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use musubi_e2e::Hub;
use musubi_e2e::process::Process;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

const LIMIT: Duration = Duration::from_secs(30);

/// Starts `musubi`, which must end at once with one line that says all of `words`.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let logs = tempfile::tempdir_in(folder).unwrap();
    let mut process = Process::musubi("refused", arguments, logs.path()).unwrap();
    let status = process.wait(LIMIT).unwrap();
    let text = process.log_text().unwrap();
    assert!(matches!(status.code(), Some(1..=4)), "{status}: {text}");
    let lines: Vec<&str> = text.lines().collect();
    let [line] = lines.as_slice() else {
        panic!("not one line:\n{text}");
    };
    assert!(line.starts_with("musubi: "), "{line}");
    for word in words {
        assert!(line.contains(word), "`{word}` is not in: {line}");
    }
    let lower = line.to_lowercase();
    for crash in ["panic", "backtrace", "unwrap", ".rs:"] {
        assert!(!lower.contains(crash), "{line}");
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    text(&path)
}

#[test]
fn a_wrong_configuration_of_the_hub_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = text(&folder.join("data"));
    for (content, words) in [
        ("lisen = \"127.0.0.1:0\"\n", ["lisen", "line 1"]),
        ("data = \"x\"\nlisten = \"nowhere\"\n", ["listen", "line 2"]),
        ("listen = 127.0.0.1\n", ["hub.toml", "line 1"]),
        (
            "grants = \"/does/not/exist\"\n",
            ["/does/not/exist", "grants"],
        ),
    ] {
        let config = file(folder, "hub.toml", content);
        refused(
            folder,
            &["serve", "--config", &config, "--data", &data],
            &words,
        );
    }
    let missing = text(&folder.join("missing.toml"));
    refused(folder, &["serve", "--config", &missing], &["missing.toml"]);
    let tokens = file(folder, "tokens", "nonsense\n");
    refused(
        folder,
        &["serve", "--data", &data, "--tokens", &tokens],
        &["tokens"],
    );
    let nowhere = text(&folder.join("nowhere/port"));
    let any_port = ["serve", "--data", &data, "--listen", "127.0.0.1:0"];
    refused(
        folder,
        &[&any_port[..], &["--address-file", &nowhere]].concat(),
        &["address file", "nowhere/port"],
    );
}

#[test]
fn listening_beyond_loopback_needs_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let data = text(&folder.path().join("data"));
    let arguments = ["serve", "--data", &data, "--listen", "0.0.0.0:0"];
    refused(folder.path(), &arguments, &["0.0.0.0", "token"]);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let data = text(&folder.path().join("data"));
    let arguments = ["serve", "--data", &data, "--listen", &address];
    refused(folder.path(), &arguments, &[&address, "use"]);
}

#[tokio::test]
async fn a_data_folder_of_a_newer_version_is_named_and_left_alone() {
    for name in ["log.sqlite", "store.sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let mut hub = Hub::start(folder.path()).await.unwrap();
        hub.process().stop().unwrap();
        let path = folder.path().join("hub").join(name);
        let options = SqliteConnectOptions::new().filename(&path);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let newer = sqlx::query("PRAGMA user_version = 99");
        newer.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let data = text(&folder.path().join("hub"));
        let arguments = ["serve", "--data", &data, "--listen", "127.0.0.1:0"];
        refused(folder.path(), &arguments, &[name, "99", "newer"]);
    }
}

#[test]
fn a_data_folder_that_cannot_be_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = file(folder.path(), "no-folder", "");
    let arguments = ["serve", "--data", &data, "--listen", "127.0.0.1:0"];
    refused(folder.path(), &arguments, &[&data]);
}

#[test]
fn wrong_settings_of_an_adapter_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = ["adapter", "run", "--municipality", "142042", "--product"];
    let with = |product: &'static str, config: &str| {
        let config = file(folder, &format!("{}.toml", config.len()), config);
        let mut arguments: Vec<String> = run.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend([product.to_owned(), "--config".to_owned(), config]);
        arguments
    };
    let cases = [
        (with("kaede", "adress = \"http://127.0.0.1:1\"\n"), "adress"),
        (with("kaede", "address = 7\n"), "line 1"),
        (with("kaede", ""), "address"),
        (
            with("hinoki", "folder = \"/does/not/exist\"\n"),
            "/does/not/exist",
        ),
        (with("momiji", "database = \"mysql://x\"\n"), "database"),
        (
            with(
                "tsubame",
                "folder = \"/tmp\"\ndata = \"/tmp\"\npol_ms = 1\n",
            ),
            "pol_ms",
        ),
        (with("sakura", ""), "sakura"),
    ];
    for (arguments, word) in &cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(folder, &arguments, &[word]);
    }
}
