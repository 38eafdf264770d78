//! What is wrong with the topics of a municipality and does not stop it: weak settings that were
//! allowed, and records that are not ours.
//! Asked by the look for alarms; settings are asked for anew once in a while.
//! Must never keep a look waiting for brokers that do not answer.
//! Read next: `alarms/rules.rs`, `log/kafka/weakness.rs`.

use std::time::Instant;

use async_trait::async_trait;

use super::{KafkaLog, Place};
use crate::event::{Municipality, Stream};
use crate::limits::{ALARM_ASK, TOPIC_CHECK_PERIOD};
use crate::log::{Concerned, Concerns};

#[async_trait]
impl Concerned for KafkaLog {
    async fn concerns(&self, m: &Municipality) -> Concerns {
        let mut all = Concerns::default();
        for stream in Stream::ALL {
            let place = Place::new(m, stream);
            let topic = self.topic(&place);
            if self.is_due(&place) {
                let checked = tokio::time::timeout(ALARM_ASK, self.topics.check(&topic));
                // What was known before goes on to stand.
                if let Ok(Ok(found)) = checked.await {
                    self.topics.note(&topic, found);
                }
            }
            all.weak += self.topics.weak_settings(&topic) as u64;
            all.set_aside += self.slot(&place).lock().set_aside.len() as u64;
        }
        all
    }
}

impl KafkaLog {
    /// True once in each period, from the first look on: the settings were checked at the opening.
    fn is_due(&self, place: &Place) -> bool {
        let slot = self.slot(place);
        let mut known = slot.lock();
        let checked = *known.checked.get_or_insert_with(Instant::now);
        let due = checked.elapsed() >= TOPIC_CHECK_PERIOD;
        if due {
            known.checked = Some(Instant::now());
        }
        due
    }
}
