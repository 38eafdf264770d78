//! Settings that are refused, each in one clear line.

use musubi_adapter_sdk::HubAccess;

use super::{OpenError, open};

fn hub() -> HubAccess {
    HubAccess {
        endpoint: "http://127.0.0.1:1".to_owned(),
        token: None,
        municipality: "142042".to_owned(),
    }
}

#[tokio::test]
async fn settings_that_are_not_understood_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let right = format!("folder = {:?}\ndata = {data:?}\n", folder.path());
    assert!(open("tsubame", &right, &hub()).await.is_ok());
    for (settings, said) in [
        (
            format!("{right}pol_ms = 5\n"),
            "line 3: unknown field `pol_ms`",
        ),
        ("folder = \"x\"\n".to_owned(), "missing field `data`"),
        (
            format!("{right}poll_ms = \"often\"\n"),
            "line 3: invalid type",
        ),
        (format!("{right}poll_ms ="), "line 3"),
        (
            format!("folder = \"/no/such/folder\"\ndata = {data:?}\n"),
            "names no folder",
        ),
        (format!("{right}instance = \"\"\n"), "`instance` is empty"),
    ] {
        let error = open("tsubame", &settings, &hub()).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, OpenError::Config { .. }), "{text}");
        assert!(text.contains(said) && !text.contains('\n'), "{text}");
    }
}

#[tokio::test]
async fn unknown_products_and_municipalities_are_refused() {
    let error = open("suzume", "", &hub()).await.unwrap_err();
    assert!(matches!(error, OpenError::UnknownProduct { .. }));
    assert!(error.to_string().contains("tsubame"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("folder = {:?}\ndata = {:?}\n", folder.path(), folder.path());
    let wrong = HubAccess {
        municipality: "142043".to_owned(),
        ..hub()
    };
    assert!(open("tsubame", &settings, &wrong).await.is_err());
}
