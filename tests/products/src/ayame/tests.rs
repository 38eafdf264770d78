use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use super::*;

struct Product {
    address: SocketAddr,
    client: Client,
}

impl Product {
    async fn start(data: &Path) -> Self {
        let address_file = data.join("address");
        drop(std::fs::remove_file(&address_file));
        let http = HttpArgs {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.to_owned(),
            address_file: Some(address_file.clone()),
        };
        tokio::spawn(run(Args { http }));
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&address_file) {
                break text.parse().unwrap();
            }
            tokio::task::yield_now().await;
        };
        let client = Client::builder().timeout(Duration::from_secs(30));
        Self {
            address,
            client: client.build().unwrap(),
        }
    }

    async fn change(&self, no: &str, version: i64, body: Value) -> (u16, Value) {
        let url = format!("http://{}/v2/persons/{no}/changes", self.address);
        let request = self
            .client
            .post(url)
            .header("if-version", version)
            .json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.address);
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

fn register(id: &str) -> Value {
    json!({"changeId": id, "kind": "register",
        "set": {"name": {"full": "𠮷田　愛", "reading": "ヨシダ　アイ"}, "alias": {"full": "あい"},
            "birth": {"date": "1995-04-06"}, "sex": "female", "nationalityClass": "japanese"},
        "address": {"from": {"date": "2023-05-14"}, "town": "雪ノ下一丁目", "building": "山田様方\n離れ"}})
}

#[tokio::test]
async fn a_change_merges_and_keeps_the_address_history() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path()).await;
    let unknown = product
        .change("1", 1, json!({"changeId": "a", "kind": "amend"}))
        .await;
    assert_eq!(unknown.0, 404);
    assert_eq!(product.change("1", 1, register("a")).await.0, 200);
    let moved = json!({"changeId": "b", "kind": "amend", "set": {"alias": null,
        "name": {"reading": null}, "residence": {"on": {"date": "2026-02-24"}}},
        "address": {"from": {"date": "2026-02-24"}, "town": "鎌倉山三丁目"}});
    let applied = product.change("1", 4, moved.clone()).await;
    assert_eq!(applied, (200, json!({"result": "applied", "version": 4})));
    let again = product.change("1", 4, moved).await;
    assert_eq!(
        again,
        (200, json!({"result": "already_applied", "version": 4}))
    );
    let older = product
        .change("1", 4, json!({"changeId": "c", "kind": "amend"}))
        .await;
    assert_eq!((older.0, &older.1["heldVersion"]), (409, &json!(4)));

    let product = Product::start(folder.path()).await;
    let held = product.get("/v2/persons/1").await;
    assert_eq!(held["name"], json!({"full": "𠮷田　愛", "reading": null}));
    assert_eq!(held["alias"], Value::Null);
    assert_eq!(held["residence"]["status"], "resident");
    assert_eq!(held["addresses"][0]["to"], "2026-02-24");
    assert_eq!(held["addresses"][0]["building"], "山田様方\n離れ");
    assert_eq!(held["addresses"][1]["town"], "鎌倉山三丁目");
    assert_eq!(held["addresses"][1]["building"], Value::Null);
    let keys = product.get("/v2/applied").await;
    assert_eq!(keys["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_refused_names_the_property() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path()).await;
    product.change("1", 1, register("a")).await;
    let cases = [
        (
            json!({"name": {"full": "愛".repeat(101)}}),
            "too_long",
            "set.name.full",
        ),
        (
            json!({"name": {"full": "愛\u{1b}"}}),
            "bad_character",
            "set.name.full",
        ),
        (
            json!({"birth": {"date": "1946-02-29"}}),
            "bad_date",
            "set.birth.date",
        ),
        (json!({"birth": null}), "missing", "set.birth"),
        (json!({"sex": "m"}), "bad_value", "set.sex"),
        (
            json!({"stay": {"until": "x"}}),
            "unknown_property",
            "set.stay.until",
        ),
        (
            json!({"stay": {"expires": "9999-12-31"}}),
            "bad_date",
            "set.stay.expires",
        ),
    ];
    for (set, code, property) in cases {
        let body = json!({"changeId": "b", "kind": "amend", "set": set});
        let (status, answer) = product.change("1", 2, body).await;
        let error = (&answer["error"]["code"], &answer["error"]["property"]);
        assert_eq!((status, error), (422, (&json!(code), &json!(property))));
    }
    let no_version = product
        .change("1", 0, json!({"changeId": "b", "kind": "amend"}))
        .await;
    assert_eq!(no_version.1["error"]["property"], "If-Version");
}

#[tokio::test]
async fn bulk_answers_each_line_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path()).await;
    let mut lines = String::new();
    for n in 1..=50 {
        let mut line = register(&format!("k{n}"));
        line["no"] = json!(format!("{n:03}"));
        line["ifVersion"] = json!(3);
        lines.push_str(&format!("{line}\n"));
    }
    lines.push_str("{\"no\":\"051\",\"ifVersion\":1,\"changeId\":\"x\",\"kind\":\"amend\"}\n");
    lines.push_str("garbage\n");
    let url = format!("http://{}/v2/bulk", product.address);
    let answer = product
        .client
        .post(url)
        .body(lines)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let answers: Vec<Value> = answer
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 52);
    assert_eq!(
        answers[49],
        json!({"line": 50, "no": "050", "status": 200, "result": "applied", "version": 3})
    );
    assert_eq!(
        (&answers[50]["status"], &answers[51]["status"]),
        (&json!(404), &json!(422))
    );
    let page = product.get("/v2/persons?size=20&cursor=030").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 20);
    assert_eq!(page["next"], "050");
}

#[tokio::test]
async fn a_measure_is_kept_for_a_person_to_come() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path()).await;
    let url = format!("http://{}/v2/persons/1/confidential/S1", product.address);
    let body = json!({"changeId": "m", "version": 1, "ended": false});
    let answer: Value = product
        .client
        .put(&url)
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["pending"], true);
    product.change("1", 1, register("a")).await;
    assert_eq!(
        product.get("/v2/persons/1").await["confidential"]["active"],
        true
    );
    let older = json!({"changeId": "n", "version": 1, "ended": true});
    let answer = product.client.put(&url).json(&older).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 409);
}
