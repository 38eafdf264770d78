//! The payload of a standard event of the resident register, decoded by its type.
//! Adapters that need more than `person.rs` tells read it directly.
//! It must never guess: an unknown type or undecodable bytes are refused.
//! Read next: `person.rs`.

use musubi_proto::standard::common::v1::ResidentRecord;
use musubi_proto::standard::resident::v1 as resident;
use prost::Message;

use crate::hub::{DeliveredEvent, Event};
use crate::receipt::Refusal;

/// Package of the events of the resident register.
pub const RESIDENT_PACKAGE: &str = "musubi.standard.resident.v1.";

/// Declares the payloads once: the enum, decoding by type, and what they share.
macro_rules! payloads {
    (with_record: $($record:ident),+; without_record: $($bare:ident),+ $(,)?) => {
        /// Payload of a standard event of the resident register.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Payload {
            $(
                #[doc = concat!("`", stringify!($record), "`.")]
                $record(Box<resident::$record>),
            )+
            $(
                #[doc = concat!("`", stringify!($bare), "`.")]
                $bare(Box<resident::$bare>),
            )+
        }

        impl Payload {
            /// Name of the message without its package.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$record(_) => stringify!($record),)+
                    $(Self::$bare(_) => stringify!($bare),)+
                }
            }

            /// The resident record, when the event has one and it was delivered.
            pub fn record(&self) -> Option<&ResidentRecord> {
                match self {
                    $(Self::$record(event) => event.record.as_ref(),)+
                    $(Self::$bare(_) => None,)+
                }
            }

            /// True when this type of event carries a resident record.
            pub fn has_record(&self) -> bool {
                match self {
                    $(Self::$record(_) => true,)+
                    $(Self::$bare(_) => false,)+
                }
            }

            /// Bytes of the message.
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$record(event) => event.encode_to_vec(),)+
                    $(Self::$bare(event) => event.encode_to_vec(),)+
                }
            }

            fn decode(name: &str, data: &[u8]) -> Option<Result<Self, prost::DecodeError>> {
                match name {
                    $(stringify!($record) => Some(
                        resident::$record::decode(data).map(|event| Self::$record(Box::new(event))),
                    ),)+
                    $(stringify!($bare) => Some(
                        resident::$bare::decode(data).map(|event| Self::$bare(Box::new(event))),
                    ),)+
                    _ => None,
                }
            }
        }

        $(impl From<resident::$record> for Payload {
            fn from(event: resident::$record) -> Self {
                Self::$record(Box::new(event))
            }
        })+
        $(impl From<resident::$bare> for Payload {
            fn from(event: resident::$bare) -> Self {
                Self::$bare(Box::new(event))
            }
        })+
    };
}

payloads! {
    with_record:
        ResidentMovedIn, ResidentMovedWithin, ResidentMoveOutNotified, ResidentMovedOut,
        ResidentMoveOutConfirmed, ResidentBorn, ResidentDied, ResidentRecordedByAuthority,
        ResidentDeletedByAuthority, ResidentAttributesCorrected, ResidentNameChanged,
        FormerNameChanged, AliasChanged, MinorCorrectionMade, HouseholdHeadChanged,
        HouseholdSplit, HouseholdMerged, HouseholdMembershipChanged, ForeignStatusChanged,
        NationalityStatusChanged, ResidentTransactionCancelled, ResidentSnapshotPublished;
    without_record:
        SupportMeasureStarted, SupportMeasureChanged, SupportMeasureEnded,
}

impl Payload {
    /// Full protobuf name of the message, as in `Event.type`.
    pub fn type_name(&self) -> String {
        format!("{RESIDENT_PACKAGE}{}", self.name())
    }
}

/// The envelope of a delivered event.
pub fn envelope(delivered: &DeliveredEvent) -> Result<&Event, Refusal> {
    delivered.event.as_ref().ok_or_else(|| {
        Refusal::reject(
            "ENVELOPE_MISSING",
            "event",
            "the delivered event has no envelope",
        )
    })
}

/// Decodes the payload of a delivered event.
pub fn decode_payload(delivered: &DeliveredEvent) -> Result<Payload, Refusal> {
    let event = envelope(delivered)?;
    let unknown = || {
        let message = format!("the adapter does not know events of type {}", event.r#type);
        Refusal::reject("TYPE_UNKNOWN", "type", message)
    };
    let name = event
        .r#type
        .strip_prefix(RESIDENT_PACKAGE)
        .ok_or_else(unknown)?;
    Payload::decode(name, &event.data)
        .ok_or_else(unknown)?
        .map_err(|_| {
            let message = format!("the data is no message of type {}", event.r#type);
            Refusal::reject("PAYLOAD_UNDECODABLE", "data", message)
        })
}
