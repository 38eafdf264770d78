//! What keeps a hub from starting, in one clear line each.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use musubi_hub::server::{Config, run};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

use super::stage::Hub;

fn config(data: &Path) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: data.to_owned(),
        ..Config::default()
    }
}

/// A start that fails, with one line that says all of these words.
#[track_caller]
fn refused(config: Config, words: &[&str]) -> impl Future<Output = ()> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    async move {
        let error = run(config, CancellationToken::new()).await.unwrap_err();
        let line = error.to_string();
        assert!(!line.contains('\n'), "{line}");
        for word in words {
            assert!(line.contains(&word), "`{word}` is not in: {line}");
        }
    }
}

#[tokio::test]
async fn a_data_folder_belongs_to_one_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let data = folder.path().join("data");
    refused(config(&data), &["in use by another hub", "data"]).await;
    hub.stop().await;
    Hub::start(folder.path()).await.stop().await;
}

#[tokio::test]
async fn a_data_folder_of_a_newer_version_is_left_alone() {
    for name in ["log.sqlite", "store.sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join(name))
            .create_if_missing(true);
        let mut file = options.connect().await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 99")
            .execute(&mut file)
            .await
            .unwrap();
        file.close().await.unwrap();
        refused(config(folder.path()), &[name, "version 99"]).await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config {
        listen: address,
        ..config(folder.path())
    };
    refused(config, &[&address.to_string(), "another program"]).await;
}

#[tokio::test]
async fn beyond_loopback_a_hub_needs_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: SocketAddr::from(([0, 0, 0, 0], 0)),
        ..config(folder.path())
    };
    refused(config, &["0.0.0.0:0", "token file"]).await;
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_token_file_that_is_not_right_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let digest = "ab".repeat(32);
    let entry = |digest: &str, municipality: &str, role: &str, rest: &str| {
        format!(
            "[[client]]\ntoken_sha256 = \"{digest}\"\nmunicipality = \"{municipality}\"\n\
             system = \"001\"\nrole = \"{role}\"\n{rest}"
        )
    };
    let wrong = [
        (entry("abc", "142042", "source", ""), "64 hex"),
        (entry(&digest, "142042", "king", ""), "king"),
        (
            entry(&digest, "142042", "source", "colour = \"red\""),
            "colour",
        ),
        (entry(&digest, "142041", "source", ""), "142041"),
        ("client = 7".to_owned(), "tokens.toml"),
    ];
    for (text, word) in wrong {
        std::fs::write(&path, text).unwrap();
        let config = Config {
            token_file: Some(path.clone()),
            ..config(folder.path())
        };
        refused(config, &["tokens.toml", word]).await;
    }
    let missing = Config {
        token_file: Some(folder.path().join("nowhere.toml")),
        ..config(folder.path())
    };
    refused(missing, &["nowhere.toml"]).await;
}

#[tokio::test]
async fn an_unknown_key_of_the_configuration_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    for (text, word) in [
        ("listenn = \"127.0.0.1:1\"", "listenn"),
        ("listen = 7411", "listen"),
        ("data = ", "hub.toml"),
    ] {
        std::fs::write(&path, text).unwrap();
        let line = Config::read(&path).unwrap_err();
        assert!(line.contains(word) && line.contains("hub.toml"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[tokio::test]
async fn grants_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let grants = folder.path().join("grants");
    std::fs::create_dir(&grants).unwrap();
    std::fs::write(grants.join("010.csv"), "nonsense\n1,2,3\n").unwrap();
    let config = Config {
        grants: Some(grants),
        ..config(folder.path())
    };
    refused(config, &["010.csv"]).await;
}
