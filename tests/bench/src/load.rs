//! What is published: moves within the town with a payload of a chosen size, in versions of persons.
//! Made before the clock starts, so that making them costs no measurement anything.
//! Must never repeat an id or a version: each event is news to the hub.
//! Read next: `stage.rs`, which publishes it.

use anyhow::{Result, ensure};
use musubi_e2e::event::{event, moved_within};
use musubi_e2e::hub::{MUNICIPALITY, SOURCE};
use musubi_proto::hub::v1::event_service_client::EventServiceClient;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Event, PublishRequest, PublishUnit, Unit, publish_unit};
use musubi_proto::standard::resident::v1::ResidentMovedWithin;
use prost::Message;
use prost_types::Timestamp;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::receiver::now_us;

/// Payload of an event, in bytes.
pub(crate) const PAYLOAD_BYTES: usize = 1_024;
/// A field number that no contract has: it pads the payload.
const PADDING: u64 = 15_000;

/// Events of a number of persons, in order.
#[derive(Debug)]
pub(crate) struct Load {
    first: u64,
    persons: u64,
    made: u64,
    /// The example, read once.
    example: Option<Box<ResidentMovedWithin>>,
}

impl Load {
    /// All versions of a number of persons, round by round.
    pub(crate) fn new(persons: u64) -> Self {
        Self {
            first: 1,
            persons,
            made: 0,
            example: None,
        }
    }

    /// The first version of ever new persons, from this number on.
    pub(crate) fn strangers(first: u64) -> Self {
        Self {
            first,
            ..Self::new(u64::MAX)
        }
    }

    /// The next events.
    pub(crate) fn events(&mut self, count: usize) -> Result<Vec<Event>> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Result<Event> {
        let subject = format!("{:010}", self.first + self.made % self.persons);
        let version = u32::try_from(self.made / self.persons + 1)?;
        self.made += 1;
        let mut payload = match &self.example {
            Some(example) => example.clone(),
            None => self.example.insert(Box::new(moved_within()?)).clone(),
        };
        if let Some(person) = payload.record.as_mut().and_then(|r| r.person.as_mut()) {
            subject.clone_into(&mut person.atenabango);
            person.rirekibango = version;
        }
        Ok(event(&subject, version, padded(payload.encode_to_vec())))
    }

    /// The next requests of so many units.
    pub(crate) fn requests(
        &mut self,
        requests: usize,
        units: usize,
    ) -> Result<Vec<PublishRequest>> {
        (0..requests)
            .map(|_| Ok(request(self.events(units)?)))
            .collect()
    }
}

/// Fills a payload up to `PAYLOAD_BYTES` with a field that no receiver knows.
fn padded(mut data: Vec<u8>) -> Vec<u8> {
    let mut head = Vec::new();
    prost::encoding::encode_varint(PADDING << 3 | 2, &mut head);
    // The length itself takes two bytes.
    let rest = PAYLOAD_BYTES.saturating_sub(data.len() + head.len() + 2);
    if rest > 127 {
        data.extend_from_slice(&head);
        prost::encoding::encode_varint(rest as u64, &mut data);
        data.resize(data.len() + rest, b'x');
    }
    data
}

pub(crate) fn request(events: Vec<Event>) -> PublishRequest {
    let units = events.into_iter().map(|event| PublishUnit {
        content: Some(publish_unit::Content::Unit(Unit {
            events: vec![event],
        })),
        ..PublishUnit::default()
    });
    PublishRequest {
        municipality: MUNICIPALITY.to_owned(),
        source: SOURCE.to_owned(),
        units: units.collect(),
        ..PublishRequest::default()
    }
}

/// Makes a request one of another municipality.
pub(crate) fn of_municipality(request: &mut PublishRequest, code: &str) {
    let source = SOURCE.replace(MUNICIPALITY, code);
    code.clone_into(&mut request.municipality);
    source.clone_into(&mut request.source);
    for unit in &mut request.units {
        if let Some(publish_unit::Content::Unit(unit)) = &mut unit.content {
            for event in &mut unit.events {
                code.clone_into(&mut event.municipality);
                source.clone_into(&mut event.source);
            }
        }
    }
}

/// When an event was handed to the publisher, in microseconds since 1970.
pub(crate) fn published_us(event: &Event) -> i64 {
    let at = event.occurred_at.unwrap_or_default();
    at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000
}

/// Writes the time into each event of a request.
pub(crate) fn stamp(request: &mut PublishRequest) {
    let now = now_us();
    let at = Timestamp {
        seconds: now.div_euclid(1_000_000),
        nanos: i32::try_from(now.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    };
    for unit in &mut request.units {
        if let Some(publish_unit::Content::Unit(unit)) = &mut unit.content {
            for event in &mut unit.events {
                event.occurred_at = Some(at);
            }
        }
    }
}

/// Publishes one request, all of which must be accepted as new.
pub(crate) async fn publish(channel: Channel, mut request: PublishRequest) -> Result<()> {
    stamp(&mut request);
    let answers = EventServiceClient::new(channel).publish(request).await?;
    for answer in answers.into_inner().answers {
        let new = matches!(&answer.answer, Some(Answer::Accepted(accepted)) if !accepted.duplicate);
        ensure!(new, "not accepted: {answer:?}");
    }
    Ok(())
}

/// Publishes all, so many requests at a time, each client one after the other.
pub(crate) async fn publish_all(
    channel: &Channel,
    requests: Vec<PublishRequest>,
    clients: usize,
) -> Result<()> {
    let mut parts: Vec<Vec<PublishRequest>> = (0..clients).map(|_| Vec::new()).collect();
    for (place, request) in requests.into_iter().enumerate() {
        if let Some(part) = parts.get_mut(place % clients) {
            part.push(request);
        }
    }
    let mut publishing = JoinSet::new();
    for part in parts {
        let channel = channel.clone();
        publishing.spawn(async move {
            for request in part {
                publish(channel.clone(), request).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(published) = publishing.join_next().await {
        published??;
    }
    Ok(())
}
