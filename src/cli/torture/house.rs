//! Where the tortured live: folders, configurations, ports, and the network between them and what they lean on.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use crate::cli::child::free_addresses;
use crate::cli::simulate;
use crate::cli::torture::TortureArgs;
use crate::cli::torture::proxy::Proxy;
use crate::cli::torture::replica::Links;
use crate::cli::torture::replica::Replica;
use crate::config::endpoint::Endpoint;
use crate::outbox::amqp::AmqpOptions;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::master_key::MasterKey;

/// How far the clocks of the second, third, … replica go wrong; that of the first is right.
const SKEWS_MS: &[i64] = &[6_000, -6_000, 2_500, -1_200];

/// What the replicas have in common.
pub(super) struct House {
    folder: PathBuf,
    url: SecretString,
    /// The nodes of the broker, as a consumer reaches them; none with JSON Lines.
    pub(super) brokers: Vec<AmqpOptions>,
    /// What the senders connect to.
    pub(super) balancer: Proxy,
}

impl House {
    /// Furnishes the folder; gives the replicas, none of them started.
    pub(super) async fn furnish(args: &TortureArgs, folder: &Path, tasks: &TaskTracker) -> anyhow::Result<(Self, Vec<Replica>)> {
        let n_replicas: usize = args.replicas.into();
        anyhow::ensure!(n_replicas == 1 || (args.store.is_some() && !args.amqp.is_empty()), "several replicas need `--store` and `--amqp`");
        if args.store.is_some() {
            MasterKey::load_or_create(&folder.join("wardroom.key")).context("cannot make a key")?;
        }
        let url = args.store.clone().unwrap_or_else(|| format!("sqlite:{}", folder.join("wardroom.db").display()).into());
        let name = format!("wardroom.torture.{}", std::process::id());
        let broker = |url: &SecretString| AmqpOptions { exchange: name.clone(), queue: name.clone(), ..AmqpOptions::new(url.clone()) };
        let brokers: Vec<AmqpOptions> = args.amqp.iter().map(broker).collect();
        let (staff, units) = simulate::directory(args.beds.into());
        write(&folder.join("staff.csv"), &staff)?;
        write(&folder.join("units.csv"), &units)?;
        let mut replicas = Vec::with_capacity(n_replicas);
        for number in 0..n_replicas {
            let own = folder.join(format!("replica-{}", number + 1));
            fs::create_dir_all(&own).with_context(|| format!("cannot make `{}`", own.display()))?;
            let (store, database) = through(&url, std::slice::from_ref(&url), 5432, tasks).await?;
            // Each replica begins with another node, and goes to the next when that one is away.
            let mut nodes = args.amqp.clone();
            let n_nodes = nodes.len().max(1);
            nodes.rotate_left(number % n_nodes);
            let (node, broker) = match nodes.first() {
                Some(first) => {
                    let (url, link) = through(first, &nodes, 5672, tasks).await?;
                    (Some(url), link)
                }
                None => (None, None),
            };
            let [feed, admin] = free_addresses()?;
            let publish = match node {
                None => format!("to = \"jsonl\"\n[publish.jsonl]\npath = \"{}\"\n", folder.join("events.jsonl").display()),
                // The queue is the consumer's.
                Some(url) => format!("to = \"amqp\"\n[publish.amqp]\nurl = \"{}\"\nexchange = \"{name}\"\nqueue = \"\"\n", url.expose_secret()),
            };
            let mut configuration = format!("[store]\nurl = \"{}\"\nkey = \"file:../wardroom.key\"\n\n", store.expose_secret());
            write!(
                configuration,
                "[publish]\n{publish}\n[rooms]\nmax_age = {{ default = \"3650d\" }}\n\n\
                 [directory]\nstaff = \"../staff.csv\"\nunits = \"../units.csv\"\n\n[admin]\nlisten = \"{admin}\"\n\n\
                 [[feeds]]\nname = \"main\"\nlisten = \"{feed}\"\nfacility = \"GHH\"\nauthority = \"GHH\"\ntime_zone = \"UTC\"\n"
            )?;
            write(&own.join("wardroom.toml"), &configuration)?;
            let skew = number.checked_sub(1).and_then(|n| SKEWS_MS.get(n % SKEWS_MS.len())).copied().unwrap_or(0);
            replicas.push(Replica::new(own, feed, admin, Links { database, broker }, skew));
        }
        let feeds = replicas.iter().map(|replica| Endpoint { host: replica.feed.ip().to_string(), port: replica.feed.port() });
        let balancer = Proxy::open(feeds, tasks).await?;
        Ok((Self { folder: folder.to_owned(), url, brokers, balancer }, replicas))
    }

    pub(super) async fn open_store(&self) -> anyhow::Result<Store> {
        let master_key = MasterKey::load(&self.folder.join("wardroom.key"))?;
        let options = StoreOptions { url: self.url.clone(), master_key, readers: 2, daemon: 0 };
        Store::open_read_only(options).await.context("cannot open the store")
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))
}

/// A URL that leads to these servers through a proxy of its own; the same URL when it names no host, or one whose certificate would be looked at.
async fn through(
    url: &SecretString,
    servers: &[SecretString],
    default_port: u16,
    tasks: &TaskTracker,
) -> anyhow::Result<(SecretString, Option<Proxy>)> {
    let targets: Option<Vec<Endpoint>> = servers.iter().map(|url| Endpoint::of_url(url.expose_secret(), default_port)).collect();
    let (Some(targets), false) = (targets, url.expose_secret().starts_with("amqps:")) else { return Ok((url.clone(), None)) };
    let link = Proxy::open(targets, tasks).await?;
    let through = with_place(url.expose_secret(), &link.address.to_string()).context("a URL without a host")?;
    Ok((through.into(), Some(link)))
}

/// The URL with another host and port.
fn with_place(url: &str, place: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
    Some(format!("{scheme}://{user}{place}{path}"))
}

#[cfg(test)]
mod tests {
    use super::with_place;

    #[test]
    fn a_url_leads_elsewhere_as_the_same_user_to_the_same_thing() {
        let check = |url, expected: &str| assert_eq!(with_place(url, "127.0.0.1:9").as_deref(), Some(expected));
        check("amqp://guest:gu@est@[::1]:5673/%2f?heartbeat=5", "amqp://guest:gu@est@127.0.0.1:9/%2f?heartbeat=5");
        check("postgres://db", "postgres://127.0.0.1:9");
    }
}
