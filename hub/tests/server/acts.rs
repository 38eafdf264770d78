//! What operators do is recorded with who and why.

use musubi_proto::hub::v1::{Act, ActKind, BindSourceRequest, ListActsRequest};

use super::stage::{Hub, SOURCE, TOWN, failed};

pub(crate) async fn acts(hub: &Hub) -> Vec<Act> {
    let ask = ListActsRequest {
        municipality: TOWN.to_owned(),
        ..ListActsRequest::default()
    };
    hub.admin().list_acts(ask).await.unwrap().into_inner().acts
}

#[tokio::test]
async fn bindings_are_recorded_once_with_who_and_why_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let ask = BindSourceRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        product: "tsubame".to_owned(),
        operator: "sato".to_owned(),
        reason: "新年度".to_owned(),
    };
    let no_reason = BindSourceRequest {
        reason: " ".to_owned(),
        ..ask.clone()
    };
    let refused = hub.admin().bind_source(no_reason).await.unwrap_err();
    assert_eq!(failed(&refused), ("INVALID_FIELD".into(), "reason".into()));
    hub.admin().bind_source(ask).await.unwrap();
    let seen = acts(&hub).await;
    let kinds: Vec<_> = seen.iter().map(Act::kind).collect();
    use ActKind::{BindProduct, BindSource, Grant};
    assert_eq!(kinds, [BindSource, BindProduct, Grant], "latest first");
    assert_eq!((&*seen[0].operator, &*seen[0].reason), ("sato", "新年度"));
    assert_eq!(seen[1].target, "026 hinoki");
    assert_eq!(seen[1].subscription, "142042/026");
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    assert_eq!(acts(&hub).await, seen, "what changes nothing is no act");
    hub.stop().await;
}
