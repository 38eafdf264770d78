//! Looks at the cluster before anything is written: may this folder go there?
//! First step of each attempt, and all that a dry run does there.
//! Must never leave a trace: a wrong configuration must cost nothing.
//! Read next: `migrate.rs`, `store/postgres/look.rs`.

use super::{Mark, MigrateError};
use crate::event::{Municipality, Position, Stream};
use crate::log::LogError;
use crate::log::kafka::OpenKafkaError;
use crate::log::kafka::look::{Look, Topic};
use crate::server::ServeError;
use crate::server::backend::{TOPICS_PREFIX, chain, log_config, store_config};
use crate::server::config::ClusterConfig;
use crate::store::postgres::look::{KNOWN_VERSION, Meta, look};
use crate::store::postgres::{PgOpenError, PgStore};

/// What it looks for.
pub(super) struct Target<'a> {
    pub(super) config: &'a ClusterConfig,
    /// Digest by which the key of the pseudonyms is known.
    pub(super) key_check: &'a str,
    pub(super) towns: &'a [Municipality],
    /// Of a former attempt.
    pub(super) mark: Option<&'a Mark>,
}

impl Target<'_> {
    /// Returns the id of the Kafka cluster.
    pub(super) async fn check(&self) -> Result<String, MigrateError> {
        let log = log_config(self.config)?;
        let (brokers, replicas) = (log.brokers.clone(), log.replication);
        let look = Look::new(log);
        let cluster = look.cluster_id().await.ok_or_else(|| {
            let nobody = OpenKafkaError::NoAnswer(brokers);
            ServeError::Config(chain(&nobody))
        })?;
        match self.mark {
            Some(mark) if mark.cluster != cluster => {
                return Err(MigrateError::OtherCluster(mark.cluster.clone()));
            }
            _ => {}
        }
        let meta = self.meta(&cluster).await?;
        let topics = look.topics().await.map_err(MigrateError::Brokers)?;
        let answering = look.brokers().await;
        let there = answering.iter().filter(|one| one.trouble.is_none()).count();
        if i32::try_from(there).is_ok_and(|there| there < replicas) {
            return Err(MigrateError::FewBrokers { there, replicas });
        }
        for m in self.towns {
            let is_known = self.is_known(m, &meta)?;
            for stream in Stream::ALL {
                let name = format!("{TOPICS_PREFIX}.{m}.{}", stream.name());
                match topics.iter().find(|topic| topic.name == name) {
                    Some(topic) => self.may_hold(&look, topic, is_known).await?,
                    None => self.may_be_made()?,
                }
            }
        }
        Ok(cluster)
    }

    /// What the database says of itself: nothing, when no instance ever used it.
    async fn meta(&self, cluster: &str) -> Result<Meta, MigrateError> {
        let config = store_config(self.config, None)?;
        let meta = look(&config, &config.url).await?.meta.unwrap_or_default();
        if meta.version > KNOWN_VERSION {
            // Refuses it by name, and changes nothing.
            PgStore::open(config).await?;
        }
        if let Some(found) = meta.cluster.as_ref().filter(|found| *found != cluster) {
            let (found, given) = (found.clone(), cluster.to_owned());
            return Err(PgOpenError::OtherCluster { found, given }.into());
        }
        let mut check = meta.key_check.iter();
        if check.any(|check| check != self.key_check) {
            return Err(PgOpenError::OtherKey.into());
        }
        Ok(meta)
    }

    /// True when this migration has begun with the municipality.
    fn is_known(&self, m: &Municipality, meta: &Meta) -> Result<bool, MigrateError> {
        let mut towns = meta.towns.iter();
        let Some(town) = towns.find(|town| town.municipality == m.as_str()) else {
            return Ok(false);
        };
        match (&town.migration, self.mark) {
            (Some(id), Some(mark)) if *id == mark.id => Ok(true),
            (Some(_), _) => Err(MigrateError::OtherFolder(m.clone())),
            (None, _) => Err(MigrateError::NotNew(m.clone())),
        }
    }

    async fn may_hold(
        &self,
        look: &Look,
        topic: &Topic,
        is_known: bool,
    ) -> Result<(), MigrateError> {
        let allowed = self.config.kafka.allow_weak_topics;
        let mut weak = topic.weaknesses.iter();
        if let Some(weakness) = weak.find(|weak| !allowed || !weak.can_be_allowed()) {
            return Err(LogError::WeakTopic(Box::new(weakness.clone())).into());
        }
        let at = look.at(&topic.name, Position(1)).await;
        let at = at.map_err(MigrateError::Brokers)?;
        if !is_known && at.next > Position(1) {
            return Err(MigrateError::UsedTopic(topic.name.clone()));
        }
        Ok(())
    }

    fn may_be_made(&self) -> Result<(), MigrateError> {
        let kafka = &self.config.kafka;
        match kafka.replication < 2 && !kafka.allow_weak_topics {
            true => Err(MigrateError::WeakConfig(kafka.replication)),
            false => Ok(()),
        }
    }
}
