use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::*;

struct Product {
    address: SocketAddr,
    client: Client,
}

impl Product {
    /// Starts the product as its own task, which ends with the test's runtime.
    async fn start(data: &Path, flaky: u64) -> Self {
        let address_file = data.join("address");
        drop(std::fs::remove_file(&address_file));
        let http = HttpArgs {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.to_owned(),
            address_file: Some(address_file.clone()),
        };
        tokio::spawn(run(Args {
            http,
            flaky,
            seed: 7,
        }));
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

    async fn send(&self, method: Method, path: &str, key: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address);
        let request = self
            .client
            .request(method, url)
            .header("idempotency-key", key)
            .json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null),
        )
    }

    async fn put(&self, no: &str, key: &str, body: Value) -> (u16, Value) {
        self.send(Method::PUT, &format!("/api/nozeisha/{no}"), key, body)
            .await
    }

    async fn patch(&self, no: &str, key: &str, body: Value) -> (u16, Value) {
        self.send(Method::PATCH, &format!("/api/nozeisha/{no}"), key, body)
            .await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self
            .client
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

fn person(version: i64) -> Value {
    json!({"rireki": version, "shimei": "𠮷田　愛", "umare": "平成7-04-06", "seibetsu": "F",
           "kubun": "N", "tsusho": "あい", "jusho": "神奈川県鎌倉市山崎３４３番地５"})
}

#[tokio::test]
async fn absent_items_stay_null_clears_and_a_key_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path(), 0).await;
    let missing = product.patch("0001", "k0", json!({"rireki": 1})).await;
    assert_eq!(
        (missing.0, &missing.1["error"]["code"]),
        (404, &json!("MITOROKU"))
    );
    let created = product.put("0001", "k1", person(2)).await;
    assert_eq!(created, (201, json!({"kekka": "TOROKU", "rireki": 2})));
    let again = product.put("0001", "k1", person(2)).await;
    assert_eq!(again, (200, json!({"kekka": "SUMI", "rireki": 2})));
    let older = product
        .patch("0001", "k2", json!({"rireki": 2, "tsusho": null}))
        .await;
    assert_eq!((older.0, &older.1["hojiRireki"]), (409, &json!(2)));
    let patch =
        json!({"rireki": 5, "tsusho": null, "jotai": "TENSHUTSU", "jotaiHi": "令和8-03-02"});
    assert_eq!(product.patch("0001", "k3", patch).await.0, 200);

    // Another process on the same data holds the same: nothing answered is lost.
    let product = Product::start(folder.path(), 0).await;
    let (_, held) = product.get("/api/nozeisha/0001").await;
    assert_eq!(held["rireki"], 5);
    assert_eq!(held["shimei"], "𠮷田　愛");
    assert_eq!(held["tsusho"], Value::Null);
    assert_eq!(held["jotai"], "TENSHUTSU");
    let (_, keys) = product.get("/api/jisseki?after=0").await;
    let keys: Vec<_> = keys["jisseki"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["key"])
        .collect();
    assert_eq!(keys, ["k1", "k3"]);
    assert_eq!(product.get("/api/jisseki/k3").await.0, 200);
    assert_eq!(product.get("/api/jisseki/k2").await.0, 404);
}

#[tokio::test]
async fn what_is_refused_names_the_item_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path(), 0).await;
    product.put("1", "k1", person(1)).await;
    let cases = [
        (
            json!({"rireki": 2, "jusho": "鎌".repeat(501)}),
            "NAGASA",
            "jusho",
        ),
        (
            json!({"rireki": 2, "jusho": "山田様方\n離れ"}),
            "MOJI",
            "jusho",
        ),
        (
            json!({"rireki": 2, "umare": "昭和64-02-01"}),
            "HIZUKE",
            "umare",
        ),
        (
            json!({"rireki": 2, "umare": "昭和21-02-29"}),
            "HIZUKE",
            "umare",
        ),
        (json!({"rireki": 2, "jotai": "INAI"}), "KODO", "jotai"),
        (json!({"rireki": 2, "jotai": null}), "HISSU", "jotai"),
        (json!({"rireki": 2, "name": "x"}), "KEISHIKI", "name"),
        (json!({"rireki": "2"}), "KEISHIKI", "rireki"),
        (json!({"shimei": "x"}), "HISSU", "rireki"),
        (json!([]), "KEISHIKI", ""),
    ];
    for (body, code, item) in cases {
        let (status, answer) = product.patch("1", "k2", body).await;
        let error = (&answer["error"]["code"], &answer["error"]["komoku"]);
        assert_eq!((status, error), (400, (&json!(code), &json!(item))));
    }
    let (status, answer) = product.patch("1", "", json!({"rireki": 2})).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("KEY")));
    let unworded =
        json!({"rireki": 2, "umare": "昭和21-02-29", "umareFusho": "昭和２１年２月２９日"});
    assert_eq!(product.patch("1", "k3", unworded).await.0, 200);
    let cleared = product
        .patch("1", "k4", json!({"rireki": 3, "umareFusho": null}))
        .await;
    assert_eq!(cleared.0, 400);
    let incomplete = product
        .put("2", "k5", json!({"rireki": 1, "umare": "令和1-05-01"}))
        .await;
    assert_eq!(incomplete.1["error"]["komoku"], "seibetsu");
}

#[tokio::test]
async fn busy_answers_come_now_and_then_and_nothing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path(), 5).await;
    let mut busy = 0;
    for n in 0..60 {
        let (no, key) = (format!("{n:04}"), format!("k{n}"));
        while product.put(&no, &key, person(1)).await.0 == 503 {
            busy += 1;
        }
    }
    assert!((5..40).contains(&busy), "{busy}");
    let mut after = String::new();
    let mut seen = Vec::new();
    loop {
        let (_, page) = product
            .get(&format!("/api/nozeisha?after={after}&limit=7"))
            .await;
        let persons = page["nozeisha"].as_array().unwrap();
        seen.extend(
            persons
                .iter()
                .map(|held| held["atenabango"].as_str().unwrap().to_owned()),
        );
        match page["tsugi"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (0..60).map(|n| format!("{n:04}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn protection_stands_apart_from_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::start(folder.path(), 0).await;
    let path = "/api/nozeisha/1/hogo/S000012";
    let started = json!({"han": 1, "shuryo": false});
    let (status, answer) = product.send(Method::PUT, path, "m1", started).await;
    assert_eq!((status, &answer["mitoroku"]), (200, &json!(true)));
    product.put("1", "k1", person(4)).await;
    assert_eq!(
        product.get("/api/nozeisha/1").await.1["hogo"]["hogochu"],
        true
    );
    let ended = json!({"han": 2, "shuryo": true});
    assert_eq!(product.send(Method::PUT, path, "m2", ended).await.0, 200);
    let late = json!({"han": 2, "shuryo": false});
    let (status, answer) = product.send(Method::PUT, path, "m3", late).await;
    assert_eq!((status, &answer["hojiHan"]), (409, &json!(2)));
    let seen = json!({"rireki": 5, "hogoTsuika": ["S000012"]});
    product.patch("1", "k2", seen).await;
    assert_eq!(
        product.get("/api/nozeisha/1").await.1["hogo"]["hogochu"],
        false
    );
}
