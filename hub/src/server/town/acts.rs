//! The acts that stand behind control records, and what a correction among them orders.
//! Asked by the town where it applies a record, also when it reads one again after a crash.
//! Must never name one record's act in two ways: the place names it.
//! Read next: `store/acts.rs`.

use musubi_proto::hub::v1::ActKind;
use prost::Message;

use super::{filling_id, subscription_id};
use crate::event::{Event, Municipality, Position, Stream};
use crate::publish::control::{Change, Control};
use crate::server::runner::EditOrder;
use crate::store::{NewAct, UnitKey};

/// Name of the act of a control record.
pub(crate) fn act_name(live: Position) -> String {
    format!("control-{}", live.0)
}

/// What a control record orders for a parked event.
pub(super) fn edit_order(change: Change, act: NewAct, at: Position) -> Option<EditOrder> {
    let Change::Edit {
        subscription,
        stream,
        sequence,
        member,
        revision,
        event_id,
        event,
    } = change
    else {
        return None;
    };
    let event = Event::decode(&event[..]).ok()?;
    let key = UnitKey {
        stream: Stream::from_number(stream),
        sequence,
        member,
    };
    let act = NewAct {
        units: vec![key],
        subjects: 1,
        note: format!("corrected by {}", event.id),
        ..act
    };
    Some(EditOrder {
        subscription,
        key,
        revision,
        event_id,
        event,
        at,
        act,
    })
}

/// The act of a control record. Its place names it, so that applying it again records nothing.
pub(super) fn act_of(m: &Municipality, control: &Control, live: Position) -> NewAct {
    let own = |system: &str| subscription_id(m, system);
    let (kind, subscription, target) = match &control.change {
        Change::Grants { .. } => (ActKind::Grant, String::new(), "grants".to_owned()),
        Change::Subscribe {
            system, product, ..
        } => {
            let target = format!("{system} {product}");
            (ActKind::BindProduct, own(system), target)
        }
        Change::Fill {
            system,
            product,
            epoch,
            ..
        } => {
            let target = format!("{system} {product}");
            (ActKind::BindProduct, filling_id(m, system, *epoch), target)
        }
        Change::Edit {
            subscription,
            event_id,
            ..
        } => (ActKind::Edit, subscription.clone(), event_id.clone()),
        Change::Abandon { system, epoch } => {
            let id = filling_id(m, system, *epoch);
            (ActKind::Abandon, id, system.clone())
        }
        Change::Settings {
            system, product, ..
        } => {
            let target = format!("{system} {product}");
            (ActKind::Settings, own(system), target)
        }
        Change::Cut {
            system, product, ..
        } => {
            let target = format!("{system} {product}");
            (ActKind::CutOver, own(system), target)
        }
    };
    NewAct {
        id: act_name(live),
        subscription,
        target,
        note: format!("control record at live {}", live.0),
        ..NewAct::now(kind as i32, &control.operator, &control.reason)
    }
}
