//! What any gRPC client finds: health and reflection.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::stage::Hub;

#[tokio::test]
async fn every_service_says_that_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let mut health = HealthClient::new(hub.channel());
    for service in ["", "EventService", "DeliveryService", "AdminService"] {
        let service = match service {
            "" => String::new(),
            name => format!("musubi.hub.v1.{name}"),
        };
        let answer = health.check(HealthCheckRequest { service }).await;
        assert_eq!(
            answer.unwrap().into_inner().status(),
            ServingStatus::Serving
        );
    }
    hub.stop().await;
}

#[tokio::test]
async fn reflection_names_the_services_and_their_contracts() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let mut reflection = ServerReflectionClient::new(hub.channel());
    let ask = |message| ServerReflectionRequest {
        message_request: Some(message),
        ..ServerReflectionRequest::default()
    };
    let symbol = "musubi.standard.resident.v1.ResidentMovedWithin".to_owned();
    let asked = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(symbol)),
    ];
    let answers = reflection.server_reflection_info(tokio_stream::iter(asked));
    let mut answers = answers.await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = first else {
        panic!("{first:?}");
    };
    let names: Vec<&str> = services.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["EventService", "DeliveryService", "AdminService"] {
        assert!(
            names.contains(&format!("musubi.hub.v1.{name}").as_str()),
            "{names:?}"
        );
    }
    let second = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(
        second,
        Some(MessageResponse::FileDescriptorResponse(_))
    ));
    hub.stop().await;
}
