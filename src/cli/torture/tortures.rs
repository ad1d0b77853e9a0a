//! What is done to the replicas, to their network, and to the servers that they lean on, until they have been killed often enough.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::cli::console::Console;
use crate::cli::torture::Report;
use crate::cli::torture::TortureArgs;
use crate::cli::torture::proxy::Condition;
use crate::cli::torture::proxy::Proxy;
use crate::cli::torture::replica::Replica;
use crate::random::Random;

/// From the shortest to the longest time for which a replica usually stands still.
const SHORT_STOP_MS: (u64, u64) = (100, 1_500);
/// Now and then one of several stands still for longer than its leases last.
const LONG_STOP_MS: (u64, u64) = (12_000, 16_000);
/// For how long a connection to a server is disturbed.
const DISTURBED_MS: (u64, u64) = (300, 4_000);

/// Whoever does it.
pub(super) struct Tortures<'a> {
    args: &'a TortureArgs,
    replicas: &'a mut [Replica],
    random: Random,
    tasks: &'a TaskTracker,
    restart_of_broker: Restart,
    restart_of_store: Restart,
    report: &'a mut Report,
}

/// A restart of a server, while everything else goes on.
type Restart = Option<JoinHandle<anyhow::Result<()>>>;

impl<'a> Tortures<'a> {
    pub(super) fn new(args: &'a TortureArgs, replicas: &'a mut [Replica], tasks: &'a TaskTracker, report: &'a mut Report) -> Self {
        let random = Random::new(args.seed ^ 0x7041);
        Self { args, replicas, random, tasks, restart_of_broker: None, restart_of_store: None, report }
    }

    /// Does it all, and leaves every replica running and every server there.
    pub(super) async fn run(mut self, n_kills: u32, console: &Console) -> anyhow::Result<()> {
        let progress = console.progress(usize::try_from(n_kills).unwrap_or(usize::MAX).max(50), "kills");
        while self.report.kills < n_kills {
            let victim = self.random.below(self.replicas.len());
            if !self.random.one_in(4) {
                self.listens(victim).await?;
            }
            self.pause(20, 700).await;
            self.restart_servers().await?;
            self.disturb_network(victim);
            self.disturb(victim).await?;
            self.kill(victim).await?;
            progress.inc(1);
            if self.replicas.len() > 1 && self.report.kills < n_kills && self.random.one_in(6) {
                self.kill((victim + 1) % self.replicas.len()).await?;
                progress.inc(1);
            }
        }
        progress.finish_and_clear();
        for restart in [self.restart_of_broker.take(), self.restart_of_store.take()].into_iter().flatten() {
            restart.await.context("a restart ended early")??;
        }
        for replica in self.replicas.iter_mut() {
            replica.go_on();
            for link in [&replica.links.database, &replica.links.broker].into_iter().flatten() {
                link.set(Condition::Open);
            }
            replica.listens().await?;
        }
        Ok(())
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        sleep(Duration::from_millis(self.random.between(from_ms, to_ms))).await;
        for replica in self.replicas.iter_mut() {
            replica.go_on_when_due();
        }
    }

    async fn listens(&mut self, victim: usize) -> anyhow::Result<()> {
        match self.replicas.get_mut(victim) {
            Some(replica) => replica.listens().await,
            None => Ok(()),
        }
    }

    async fn kill(&mut self, victim: usize) -> anyhow::Result<()> {
        let Some(replica) = self.replicas.get_mut(victim) else { return Ok(()) };
        replica.kill().await;
        replica.tally.kills += 1;
        self.report.kills += 1;
        replica.start()
    }

    /// What they lean on is restarted every few kills, where there is a command for that.
    async fn restart_servers(&mut self) -> anyhow::Result<()> {
        let (command, count, running) = match self.report.kills % 6 {
            2 | 3 => (&self.args.restart_broker, &mut self.report.broker_restarts, &mut self.restart_of_broker),
            4 | 5 => (&self.args.restart_store, &mut self.report.store_restarts, &mut self.restart_of_store),
            _ => return Ok(()),
        };
        let Some(command) = command else { return Ok(()) };
        // Once in six kills; a kill of two may have skipped the number.
        if *count > self.report.kills / 6 {
            return Ok(());
        }
        if let Some(before) = running.take() {
            before.await.context("a restart ended early")??;
        }
        *running = Some(self.tasks.spawn(restart(command.clone())));
        *count += 1;
        Ok(())
    }

    /// A connection to the database or the broker is cut, held still or slowed for a while: of one replica, or of all.
    fn disturb_network(&mut self, victim: usize) {
        let (is_now, is_broker, is_for_all) = (self.random.one_in(6), self.random.one_in(2), self.random.one_in(3));
        let condition = *self.random.pick(&[Condition::Cut, Condition::Still, Condition::Slow]).unwrap_or(&Condition::Cut);
        let (from, to) = DISTURBED_MS;
        let span = Duration::from_millis(self.random.between(from, to));
        if !is_now {
            return;
        }
        let mut disturbed: Vec<Proxy> = Vec::new();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let link = if is_broker { &replica.links.broker } else { &replica.links.database };
            if let (true, Some(link)) = (is_for_all || number == victim, link) {
                disturbed.push(link.clone());
                replica.tally.cuts += 1;
            }
        }
        if disturbed.is_empty() {
            return;
        }
        self.report.cuts += 1;
        set(&disturbed, condition);
        self.tasks.spawn(async move {
            sleep(span).await;
            set(&disturbed, Condition::Open);
        });
    }

    /// What else may happen to a replica before it is killed.
    async fn disturb(&mut self, victim: usize) -> anyhow::Result<()> {
        match self.random.below(8) {
            0 => self.stop(victim).await,
            1 => {
                self.listens(victim).await?;
                let Some(replica) = self.replicas.get_mut(victim) else { return Ok(()) };
                self.report.faults.extend(replica.end().await?);
                replica.tally.ends += 1;
                self.report.ends += 1;
                replica.start()?;
            }
            _ => return Ok(()),
        }
        self.pause(20, 700).await;
        Ok(())
    }

    /// The victim stands still for a moment. Of several, the one after it may stand still for longer than its leases last, while everything goes on.
    async fn stop(&mut self, victim: usize) {
        let is_long = self.replicas.len() > 1 && self.random.one_in(3) && !self.replicas.iter().any(Replica::is_stopped);
        let (from, to) = if is_long { LONG_STOP_MS } else { SHORT_STOP_MS };
        let span = Duration::from_millis(self.random.between(from, to));
        let stopped = if is_long { (victim + 1) % self.replicas.len() } else { victim };
        let Some(replica) = self.replicas.get_mut(stopped) else { return };
        replica.stop_for(span);
        if is_long {
            self.report.long_stops += 1;
        } else {
            self.report.stops += 1;
            sleep(span).await;
            replica.go_on();
        }
    }
}

fn set(links: &[Proxy], condition: Condition) {
    for link in links {
        link.set(condition);
    }
}

async fn restart(command: String) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = shell.status().await.with_context(|| format!("cannot run `{command}`"))?;
    anyhow::ensure!(status.success(), "`{command}` failed: {status}");
    Ok(())
}
