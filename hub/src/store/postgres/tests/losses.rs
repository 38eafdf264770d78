//! Lost answers, cut connections and a server that starts again: nothing is lost, nothing is twice.
//! What an operator's database does to a hub sooner or later.
//! Must never pass because nothing was cut.
//! Read next: `store/postgres/session.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::event::seal::Sealed;
use crate::store::{ActStore, HeldKind, HeldState, NewAct, NewHeld, PublishStore};

/// Passes bytes on; once armed, it closes the connection instead of passing on the next answer to
/// a COMMIT.
pub(super) struct Proxy {
    pub(super) port: u16,
    pub(super) armed: Arc<AtomicBool>,
}

impl Proxy {
    pub(super) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicBool::new(false));
        let arm = armed.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(pass(client, server, arm.clone()));
            }
        });
        Self { port, armed }
    }
}

async fn pass(client: TcpStream, server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = tokio::spawn(async move {
        tokio::io::copy(&mut from_client, &mut to_server).await.ok();
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
        let answer = &bytes[..read];
        let committed = answer.windows(7).any(|word| word == b"COMMIT\0");
        if committed && armed.swap(false, Ordering::SeqCst) {
            break;
        }
        if to_client.write_all(answer).await.is_err() {
            break;
        }
    }
    asking.abort();
}

fn refused(key: &str, version: u32) -> NewHeld {
    NewHeld {
        source: REGISTRY.to_owned(),
        key: key.to_owned(),
        state: HeldState::Refused,
        rule: "date_in_calendar".to_owned(),
        file: "R0010002.csv".to_owned(),
        line: 12,
        item: String::new(),
        message: String::new(),
        rows: 1,
        held_ms: 1,
        kind: HeldKind::Rows,
        content: Sealed::seal(Vec::new()),
        subjects: vec![(Subject("p".to_owned()), version)],
        events: Vec::new(),
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_done_once() {
    let server = Postgres::start().unwrap();
    let direct = server.create_database("store").unwrap();
    let proxy = Proxy::before(server.port()).await;
    let url = format!("postgres://musubi@127.0.0.1:{}/store", proxy.port);
    let store = instance(&url, "a:1", LONG).await;
    store.own_town(&town()).await.unwrap();
    let m = town();
    let lost = || proxy.armed.store(true, Ordering::SeqCst);
    let was_lost = || assert!(!proxy.armed.load(Ordering::SeqCst), "no answer was lost");

    // Refused beside the accepted version of the same delta: it stays open for a clerk.
    let delta = PublishDelta {
        hold: vec![refused("a", 3)],
        ..place("e", 3, 5)
    };
    lost();
    let ids = store.commit_publish(&m, delta).await.unwrap();
    was_lost();
    let held = store.held(&m, &ids[0]).await.unwrap().unwrap();
    assert_eq!(held.held.state, HeldState::Refused);

    let act = NewAct {
        id: "act".to_owned(),
        ..NewAct::default()
    };
    lost();
    store.record_act(&m, act).await.unwrap();
    was_lost();
    assert_eq!(store.acts(&m, 0, 9).await.unwrap().len(), 1);

    lost();
    let epoch = store.own_town(&m).await.unwrap();
    was_lost();
    assert_eq!(
        epoch, 3,
        "taken twice, and the second time is what it knows"
    );
    store.commit_publish(&m, place("f", 4, 6)).await.unwrap();

    let mut connection = beside(&direct).await;
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM event")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(events, 2);
}

/// Commits one event after the other, each with its claim and an act, and counts them, until it is
/// enough.
async fn commit_many(store: &PgStore, enough: &AtomicBool, committed: &AtomicU64) {
    let m = town();
    while !enough.load(Ordering::SeqCst) {
        let number = committed.load(Ordering::SeqCst) + 1;
        let id = format!("e{number}");
        let act = NewAct {
            id: id.clone(),
            ..NewAct::default()
        };
        store.claim(&m, REGISTRY, &[claim(&id, 1)]).await.unwrap();
        let delta = place(&id, 1, number);
        store.commit_publish(&m, delta).await.unwrap();
        store.record_act(&m, act).await.unwrap();
        committed.store(number, Ordering::SeqCst);
    }
}

/// Cuts all connections of the store after each commit, until so many were cut or the work is
/// done; returns how many.
pub(super) async fn cut_during<T>(
    working: &tokio::task::JoinHandle<T>,
    committed: &AtomicU64,
    url: &str,
    enough: i64,
) -> i64 {
    let mut connection = beside(url).await;
    let (mut cut, mut seen) = (0, 0);
    while cut < enough && !working.is_finished() {
        // Once for each event, so that it comes on.
        let now = committed.load(Ordering::SeqCst);
        if now == seen {
            tokio::task::yield_now().await;
            continue;
        }
        seen = now;
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name = 'musubi'",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        cut += ended;
    }
    cut
}

#[tokio::test]
async fn connections_that_are_cut_during_commits_lose_nothing_and_do_nothing_twice() {
    let mut server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let store = Arc::new(instance(&url, "a:1", LONG).await);
    store.own_town(&town()).await.unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let committed = Arc::new(AtomicU64::new(0));
    let working = {
        let (store, enough, committed) = (store.clone(), enough.clone(), committed.clone());
        tokio::spawn(async move { commit_many(&store, &enough, &committed).await })
    };
    cut_during(&working, &committed, &url, 40).await;
    enough.store(true, Ordering::SeqCst);
    working.await.unwrap();
    let events = committed.load(Ordering::SeqCst);
    let m = town();
    let found = store
        .events_of(&m, &Subject("p".to_owned()), 9_999)
        .await
        .unwrap();
    assert_eq!(found.len() as u64, events);
    assert!(found.iter().all(|event| event.at.is_some()));
    assert_eq!(store.acts(&m, 0, 9_999).await.unwrap().len() as u64, events);
    assert_eq!(
        store.committed_tail(&m, Stream::Live).await.unwrap(),
        Position(events + 1)
    );

    // The server is killed and comes back: whoever asks meanwhile waits for it.
    server.kill().unwrap();
    let asking = tokio::spawn(async move { store.committed_tail(&town(), Stream::Live).await });
    let restarting = tokio::task::spawn_blocking(move || server.restart().map(|()| server));
    let _running = restarting.await.unwrap().unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), Position(events + 1));
}
