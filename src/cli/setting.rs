//! What most commands start from: the configuration, checked, and what is made of it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret;

use crate::care::policy::Policy;
use crate::care::roster::Roster;
use crate::cli::console::Console;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::feeds::BatchAck;
use crate::config::feeds::FeedConfig;
use crate::config::publish::AmqpConfig;
use crate::config::store::KeySource;
use crate::directory;
use crate::directory::Sources;
use crate::hl7::ack::AckMode;
use crate::ids::TriggerEvent;
use crate::intake::answer::Feed;
use crate::intake::answer::SenderClaim;
use crate::outbox::amqp::AmqpOptions;
use crate::store::StoreOptions;
use crate::store::master_key::MasterKey;
use crate::store::master_key::MasterKeyError;

/// A checked configuration and what is made of it.
#[derive(Debug)]
pub struct Setting {
    /// The configuration.
    pub config: Config,
}

impl Setting {
    /// Reads the configuration; what is wrong with it has been said when this gives an exit code.
    ///
    /// # Errors
    /// None of its own.
    pub fn load(file: Option<&Path>, console: &Console) -> anyhow::Result<Result<Self, ExitCode>> {
        match Config::load(file, &Environment::of_process()) {
            Ok(config) => Ok(Ok(Self { config })),
            Err(errors) => Ok(Err(console.fail(64, &anyhow::Error::new(errors))?)),
        }
    }

    /// The feed of this name, else the first.
    pub fn feed(&self, name: Option<&str>) -> Option<Feed> {
        let feeds = &self.config.feeds;
        let config = match name {
            Some(name) => feeds.iter().find(|feed| feed.name.as_str() == name),
            None => feeds.first(),
        };
        config.map(feed)
    }

    /// The names of all feeds.
    pub fn feed_names(&self) -> String {
        self.config.feeds.iter().map(|feed| feed.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Which event each feed means by the one it sends.
    pub fn meant_events(&self) -> impl Fn(&str, TriggerEvent) -> TriggerEvent + use<> {
        let maps: Vec<_> = self.config.feeds.iter().map(|feed| (feed.name.clone(), feed.profile.event_map.clone())).collect();
        move |feed, event| maps.iter().find(|(name, _)| name.as_str() == feed).and_then(|(_, map)| map.get(&event)).copied().unwrap_or(event)
    }

    /// The policy.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::new(self.config.policy.clone())
    }

    /// What tells this policy from another: rooms planned under one must be planned again under the other.
    pub fn fingerprint(&self) -> String {
        // Of the policy alone: replicas differ in where they listen.
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{:?}", self.config.policy).as_bytes());
        digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Where staff and units come from.
    pub fn sources(&self) -> Sources {
        self.config.directory.clone()
    }

    /// Staff and units as the files say now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn roster(&self) -> Result<Arc<Roster>, directory::DirectoryError> {
        let sources = self.sources();
        let contents = directory::read(&sources)?;
        Ok(Arc::new(directory::roster(contents, &sources)))
    }

    /// How the store is opened. With `may_create`, a new SQLite file gets a new key beside it.
    ///
    /// # Errors
    /// When there is no key, or none that can be read.
    pub fn store(&self, daemon: u16, may_create: bool) -> Result<StoreOptions, MasterKeyError> {
        let url = self.config.store.url.to_secret();
        let is_new = !crate::store::exists(&url).unwrap_or(true);
        let master_key = match &self.config.store.key {
            KeySource::Given { key, .. } => MasterKey::from_base64(key.expose_secret())?,
            KeySource::File(path) if may_create && is_new => MasterKey::load_or_create(path)?,
            KeySource::File(path) => MasterKey::load(path)?,
        };
        Ok(StoreOptions { url, master_key, readers: 4, daemon })
    }
}

/// How the broker is reached, with what is in the files that the configuration names.
///
/// # Errors
/// When the file with the authority's certificates cannot be read.
pub fn amqp_options(amqp: &AmqpConfig) -> anyhow::Result<AmqpOptions> {
    let ca_pem = match &amqp.ca {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("cannot read `{}` (`publish.amqp.ca`)", path.display()))?),
        None => None,
    };
    let queue = amqp.queue.clone().unwrap_or_default();
    Ok(AmqpOptions { exchange: amqp.exchange.clone(), queue, ca_pem, ..AmqpOptions::new(amqp.url.clone()) })
}

/// A feed as the intake sees it.
pub fn feed(config: &FeedConfig) -> Feed {
    let senders = config.senders.clone();
    let permits = move |claim: &SenderClaim<'_>| {
        senders.iter().any(|sender| {
            sender.application.as_ref().is_none_or(|application| application == claim.application)
                && sender.facility.as_ref().is_none_or(|facility| facility == claim.facility)
                && sender.certificate.as_ref().is_none_or(|name| claim.certificate_names.contains(name))
                && (sender.addresses.is_empty() || sender.addresses.iter().any(|range| range.contains(claim.address.ip())))
        })
    };
    Feed {
        profile: config.profile.clone(),
        ack_mode: match config.ack_mode {
            crate::config::feeds::AckMode::Auto => AckMode::Auto,
            crate::config::feeds::AckMode::Original => AckMode::Original,
            crate::config::feeds::AckMode::Enhanced => AckMode::Enhanced,
            crate::config::feeds::AckMode::None => AckMode::None,
        },
        warns_quarantined: config.warn_quarantined,
        answers_each: config.batch_ack == BatchAck::Each,
        commit_timeout: config.commit_timeout,
        permits: if config.senders.is_empty() { None } else { Some(Arc::new(permits)) },
    }
}
