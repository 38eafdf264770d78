//! Tokens: who may do what, and that nobody learns more from a refusal.

use std::path::{Path, PathBuf};

use musubi_proto::hub::v1::attach_request::Request as Ask;
use musubi_proto::hub::v1::{
    AttachRequest, BindProductRequest, GetEventRequest, Hello, ListEventsRequest,
    ListSubscriptionsRequest, PublishRequest,
};
use sha2::{Digest, Sha256};
use tonic::{Code, Request, Status};

use super::stage::{Hub, SOURCE, TOWN, failed, moved, request, unit};

/// A right code of another municipality.
const OTHER_TOWN: &str = "131016";

pub(crate) fn tokens(folder: &Path) -> PathBuf {
    let mut text = String::new();
    for (token, system, role) in [
        ("registry", "001", "source"),
        ("pension", "026", "receiver"),
        ("chief", "", "operator"),
    ] {
        let digest: String = Sha256::digest(token)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.push_str(&format!(
            "[[client]]\ntoken_sha256 = \"{digest}\"\nmunicipality = \"{TOWN}\"\n\
             system = \"{system}\"\nrole = \"{role}\"\n"
        ));
    }
    let path = folder.join("tokens.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let header = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    request
}

async fn publish(hub: &Hub, token: &str, request: PublishRequest) -> Result<(), Status> {
    let published = hub.events().publish(with(token, request)).await;
    published.map(drop)
}

async fn list(hub: &Hub, token: &str, town: &str) -> Result<(), Status> {
    let ask = ListSubscriptionsRequest {
        municipality: town.to_owned(),
    };
    hub.admin()
        .list_subscriptions(with(token, ask))
        .await
        .map(drop)
}

async fn attach(hub: &Hub, token: &str, town: &str, system: &str) -> Result<(), Status> {
    let hello = AttachRequest {
        request: Some(Ask::Hello(Hello {
            municipality: town.to_owned(),
            system: system.to_owned(),
            product: "hinoki".to_owned(),
            adapter_version: "1".to_owned(),
            ..Hello::default()
        })),
    };
    let said = tokio_stream::iter(vec![hello]);
    hub.deliveries().attach(with(token, said)).await.map(drop)
}

fn right() -> PublishRequest {
    request(vec![unit(vec![moved("0000000001", 1)])])
}

#[track_caller]
fn denied(outcome: Result<(), Status>, code: Code) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error:?}");
    let reason = match code {
        Code::Unauthenticated => "UNAUTHENTICATED",
        _ => "PERMISSION_DENIED",
    };
    assert_eq!(failed(&error).0, reason);
}

#[tokio::test]
async fn without_a_known_token_nobody_does_anything() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::with(folder.path(), Some(tokens(folder.path()))).await;
    for token in ["", "guess", "registry ", "Registry"] {
        denied(publish(&hub, token, right()).await, Code::Unauthenticated);
        denied(list(&hub, token, TOWN).await, Code::Unauthenticated);
        denied(
            attach(&hub, token, TOWN, "026").await,
            Code::Unauthenticated,
        );
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_token_gives_its_own_right_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::with(folder.path(), Some(tokens(folder.path()))).await;
    let bind = BindProductRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        product: "hinoki".to_owned(),
        operator: "operator".to_owned(),
        reason: "story".to_owned(),
    };
    hub.admin()
        .bind_product(with("chief", bind.clone()))
        .await
        .unwrap();
    publish(&hub, "registry", right()).await.unwrap();
    attach(&hub, "pension", TOWN, "026").await.unwrap();
    list(&hub, "chief", TOWN).await.unwrap();

    const DENIED: Code = Code::PermissionDenied;
    // Another municipality.
    let elsewhere = PublishRequest {
        municipality: OTHER_TOWN.to_owned(),
        source: format!("urn:jp:lg:{OTHER_TOWN}:system:001"),
        ..right()
    };
    denied(publish(&hub, "registry", elsewhere.clone()).await, DENIED);
    denied(publish(&hub, "chief", elsewhere).await, DENIED);
    denied(list(&hub, "chief", OTHER_TOWN).await, DENIED);
    denied(attach(&hub, "pension", OTHER_TOWN, "026").await, DENIED);
    // Another system.
    let other = PublishRequest {
        source: format!("urn:jp:lg:{TOWN}:system:010"),
        ..right()
    };
    denied(publish(&hub, "registry", other).await, DENIED);
    denied(attach(&hub, "pension", TOWN, "010").await, DENIED);
    // Another role.
    denied(publish(&hub, "pension", right()).await, DENIED);
    denied(attach(&hub, "registry", TOWN, "026").await, DENIED);
    for token in ["registry", "pension"] {
        denied(list(&hub, token, TOWN).await, DENIED);
        let bound = hub.admin().bind_product(with(token, bind.clone())).await;
        denied(bound.map(drop), DENIED);
        let all = ListEventsRequest {
            municipality: TOWN.to_owned(),
            ..ListEventsRequest::default()
        };
        denied(
            hub.events().list_events(with(token, all)).await.map(drop),
            DENIED,
        );
    }
    hub.stop().await;
}

#[tokio::test]
async fn an_event_is_shown_to_its_source_and_the_operator_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::with(folder.path(), Some(tokens(folder.path()))).await;
    let event = moved("0000000001", 1);
    let published = request(vec![unit(vec![event.clone()])]);
    publish(&hub, "registry", published).await.unwrap();
    let ask = |id: &str| GetEventRequest {
        municipality: TOWN.to_owned(),
        id: id.to_owned(),
    };
    for token in ["registry", "chief"] {
        hub.events()
            .get_event(with(token, ask(&event.id)))
            .await
            .unwrap();
    }
    // What exists and what does not look the same to a stranger.
    for id in [event.id.as_str(), "none"] {
        let shown = hub.events().get_event(with("pension", ask(id))).await;
        denied(shown.map(drop), Code::PermissionDenied);
    }
    assert!(event.source == SOURCE);
    hub.stop().await;
}
