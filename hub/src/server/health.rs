//! Says by gRPC's health service whether this instance can do anything.
//! Asked by whoever has several instances to choose from.
//! Must never say that it serves while it has lost the store that all instances share.
//! Read next: `server/lease.rs`.

use musubi_proto::hub::v1::admin_service_server::AdminServiceServer;
use musubi_proto::hub::v1::delivery_service_server::DeliveryServiceServer;
use musubi_proto::hub::v1::event_service_server::EventServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::admin_service::Admin;
use super::delivery_service::Deliveries;
use super::event_service::Events;
use super::lease::Lease;
use crate::limits::OWNER_LOOK;

/// The whole, and each service.
const NAMES: [&str; 4] = [
    "",
    EventServiceServer::<Events>::NAME,
    DeliveryServiceServer::<Deliveries>::NAME,
    AdminServiceServer::<Admin>::NAME,
];

/// Tells whether it serves.
pub(super) async fn tell(health: &HealthReporter, serves: bool) {
    let status = match serves {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    for name in NAMES {
        health.set_service_status(name, status).await;
    }
}

/// Tells each change, until the hub stops.
pub(super) async fn keep_telling(health: HealthReporter, lease: Lease, stop: CancellationToken) {
    let mut lost = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(OWNER_LOOK) => {}
        }
        if lease.is_lost() != lost {
            lost = !lost;
            tell(&health, !lost).await;
        }
    }
}
