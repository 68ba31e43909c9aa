//! The demo's story, step by step, each with its measurements.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, future::join_all};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use landbridge_api::{
    mcs::{ServiceExport, ServiceImport},
    watch::{Change, WatchConfig, watch},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    echo::Arrivals,
    narrator::Narrator,
    report::{Millis, Report, failover},
    site::Site,
    wan::Wan,
    workload::Workload,
};

/// How long anything that the story waits for may take before it is a failure. Everything takes milliseconds but
/// the return of a cut cluster, whose gateways ask again with growing waits.
const PATIENCE: Duration = Duration::from_secs(6);

/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(1);

/// Calls that show who answers.
const CALLS: u32 = 100;

/// Steady calls: 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// Steady calls before the cut, so that every path is in use.
const BEFORE_CUT: Duration = Duration::from_millis(500);

/// And after it, longer than any client of these waits.
const AFTER_CUT: Duration = Duration::from_millis(2_500);

/// What the story is told about.
pub(super) struct Story<'a> {
    /// The clusters: the first exports first, the last one calls.
    pub(super) sites: &'a [Site],
    /// What is between them.
    pub(super) wan: &'a Wan,
    /// The workload that is exported and called.
    pub(super) workload: &'a Workload,
    /// The user's other workloads, which are exported as well.
    pub(super) others: &'a [Workload],
    /// Which calls have arrived.
    pub(super) arrivals: &'a Arrivals,
    /// Who tells.
    pub(super) narrator: &'a mut Narrator,
    /// What was measured.
    pub(super) report: &'a mut Report,
}

/// What an importing cluster saw, and when.
struct Seen {
    import: Duration,
    answer: Duration,
    call: Duration,
    caller: Option<String>,
}

impl<'a> Story<'a> {
    /// Tells all of it.
    ///
    /// # Errors
    /// The step that went wrong.
    pub(super) async fn tell(&mut self) -> anyhow::Result<()> {
        self.first_export().await.context("exporting the service")?;
        self.other_exports().await.context("exporting the other services")?;
        self.second_export().await.context("exporting it from a second cluster")?;
        self.cut().await.context("cutting a cluster off")?;
        self.unexport().await.context("taking the exports back")?;
        Ok(())
    }

    /// The first cluster exports; every other one imports, resolves and calls.
    async fn first_export(&mut self) -> anyhow::Result<()> {
        let exporter = &self.sites[0];
        self.narrator.step(&format!(
            "1. {} exports {} with this object",
            exporter.name(),
            self.workload.key
        ));
        self.narrator.say(&self.workload.export_yaml);
        self.narrator.wait("waiting for the other clusters");
        let mut arrivals = Vec::new();
        for site in &self.sites[1..] {
            arrivals.push((site, watch_import(site, self.workload).await?));
        }
        let begun = Instant::now();
        export(exporter, self.workload).await?;
        let seen = join_all(
            arrivals.into_iter().map(|(site, import)| arrive(site, self.workload, begun, import)),
        )
        .await;
        self.narrator.say(&format!(
            "\n{:<10} {:>12} {:>14} {:>14}",
            "", "import there", "name resolved", "call answered"
        ));
        for (site, seen) in self.sites[1..].iter().zip(seen) {
            let seen = seen.with_context(|| format!("in {}", site.name()))?;
            let [import, answer, call] = [seen.import, seen.answer, seen.call].map(Millis::from);
            self.narrator.say(&format!("{:<10} {import:>12} {answer:>14} {call:>14}", site.name()));
            self.report.import_ms.insert(site.name().into(), import);
            self.report.answer_ms.insert(site.name().into(), answer);
            self.report.call_ms.insert(site.name().into(), call);
            self.report.caller = seen.caller;
        }
        let caller = self.report.caller.clone();
        if let Some(caller) = caller {
            self.narrator
                .say(&format!("The pod in {} was told who called: {caller}", exporter.name()));
        }
        Ok(())
    }

    /// The first cluster exports whatever else the user brought.
    async fn other_exports(&mut self) -> anyhow::Result<()> {
        for workload in self.others {
            self.narrator.wait(&format!("exporting {}", workload.key));
            let begun = Instant::now();
            export(&self.sites[0], workload).await?;
            for site in &self.sites[1..] {
                let imports: Api<ServiceImport> =
                    Api::namespaced(site.client.clone(), workload.key.namespace.as_str());
                until("the import", || async {
                    imports.get_opt(workload.key.name.as_str()).await.ok().flatten()
                })
                .await
                .with_context(|| format!("{} in {}", workload.key, site.name()))?;
            }
            let imported = Millis::from(begun.elapsed());
            self.narrator.say(&format!("{} is imported everywhere after {imported}", workload.key));
        }
        Ok(())
    }

    /// A second cluster exports the same service; the last one calls, and both answer.
    async fn second_export(&mut self) -> anyhow::Result<()> {
        let (second, calling) = (&self.sites[1], self.calling());
        self.narrator.step(&format!(
            "2. {} exports it too; {} calls {CALLS} times",
            second.name(),
            calling.name()
        ));
        // With two clusters the second one is the caller, and its own pods would answer all: it calls first.
        if self.sites.len() > 2 {
            export(second, self.workload).await?;
            self.until_answered_by(second.name()).await?;
        }
        let target = self.target(calling).await?;
        for _ in 0..CALLS {
            let by = calling
                .caller
                .call(target)
                .await
                .map_or_else(|_| "failed".to_owned(), |reply| reply.cluster);
            *self.report.calls.entry(by).or_default() += 1;
        }
        let told: Vec<String> =
            self.report.calls.iter().map(|(by, calls)| format!("{by} {calls}")).collect();
        self.narrator.say(&format!("answered by: {}", told.join(", ")));
        if self.sites.len() == 2 {
            export(second, self.workload).await?;
            self.until_answered_by(second.name()).await?;
            self.narrator
                .say("Then tokyo exports it too: callers there are answered by their own pods.");
        }
        ensure!(!self.report.calls.contains_key("failed"), "some of {CALLS} calls failed");
        Ok(())
    }

    /// The first cluster is cut off under steady calls, and comes back.
    async fn cut(&mut self) -> anyhow::Result<()> {
        let (lost, calling) = (&self.sites[0], self.calling());
        self.narrator.step(&format!(
            "3. {} is cut off while {} calls 200 times a second",
            lost.name(),
            calling.name()
        ));
        self.narrator.wait("calling");
        let (begun, stop) = (Instant::now(), CancellationToken::new());
        let target = self.target(calling).await?;
        let timeline = async {
            sleep(BEFORE_CUT).await;
            let cut = begun.elapsed();
            self.wan.cut(lost.place.index);
            sleep(AFTER_CUT).await;
            stop.cancel();
            cut
        };
        let (cut, outcomes) =
            tokio::join!(timeline, calling.caller.steady(target, PACE, begun, stop.clone()));
        let told = failover(&outcomes, cut, self.arrivals.duplicates());
        self.report.failover = Some(told.clone());
        let Some(ms) = told.ms else { bail!("no call was good again within {AFTER_CUT:?}") };
        let wait =
            told.told_ms.map(|wait| format!(" (told so after {wait} at most)")).unwrap_or_default();
        self.narrator.say(&format!("{} of {} calls failed{wait}", told.failed, told.of));
        self.narrator
            .say(&format!("first good call after the last failed one: {ms} after the cut"));
        self.narrator.say(&format!("calls delivered twice: {}", told.duplicates));
        self.wan.restore(lost.place.index);
        let back = Instant::now();
        if self.sites.len() > 2 {
            self.narrator.wait("waiting for its return");
            self.until_answered_by(lost.name()).await?;
            let returned = Millis::from(back.elapsed());
            self.report.return_ms = Some(returned);
            self.narrator.say(&format!(
                "{} is back and answers again {returned} after its return",
                lost.name()
            ));
        }
        ensure!(told.duplicates == 0, "{} calls were delivered twice", told.duplicates);
        Ok(())
    }

    /// Every export is taken back, and the name is gone everywhere.
    async fn unexport(&mut self) -> anyhow::Result<()> {
        self.narrator.step("4. The exports are deleted");
        self.narrator.wait("waiting for the name to go");
        let begun = Instant::now();
        for site in &self.sites[..2] {
            unexport(site, self.workload).await?;
        }
        for workload in self.others {
            unexport(&self.sites[0], workload).await?;
        }
        let name = self.workload.dns_name();
        let gone = join_all(self.sites.iter().map(|site| {
            let name = name.as_str();
            until("the name to go", move || async move {
                site.caller.resolve(name).await.is_ok_and(|found| found.is_none()).then_some(())
            })
        }));
        for (site, gone) in self.sites.iter().zip(gone.await) {
            gone.with_context(|| format!("in {}", site.name()))?;
        }
        let gone = Millis::from(begun.elapsed());
        self.report.unexport_ms = Some(gone);
        self.narrator.say(&format!("{name} is gone in every cluster after {gone}"));
        Ok(())
    }

    /// Exports the workload again, for people to try, and gives its address where calls come from.
    pub(super) async fn export_again(&self) -> anyhow::Result<SocketAddr> {
        for workload in std::iter::once(self.workload).chain(self.others) {
            export(&self.sites[0], workload).await?;
        }
        self.target(self.calling()).await
    }

    fn calling(&self) -> &'a Site {
        // There are at least two clusters: the arguments see to it.
        &self.sites[self.sites.len() - 1]
    }

    /// The service's address in a cluster, as its name tells it.
    async fn target(&self, site: &Site) -> anyhow::Result<SocketAddr> {
        let (name, port) = (self.workload.dns_name(), self.workload.called_port());
        let address =
            until("the name", || async { site.caller.resolve(&name).await.ok().flatten() }).await?;
        Ok((address, port).into())
    }

    async fn until_answered_by(&self, cluster: &str) -> anyhow::Result<()> {
        let calling = self.calling();
        let target = self.target(calling).await?;
        until("an answer from it", || async {
            let reply = calling.caller.call(target).await.ok()?;
            (reply.cluster == cluster).then_some(())
        })
        .await
    }
}

fn exports(site: &Site, workload: &Workload) -> Api<ServiceExport> {
    Api::namespaced(site.client.clone(), workload.key.namespace.as_str())
}

async fn export(site: &Site, workload: &Workload) -> anyhow::Result<()> {
    exports(site, workload).create(&PostParams::default(), &workload.export).await?;
    Ok(())
}

async fn unexport(site: &Site, workload: &Workload) -> anyhow::Result<()> {
    exports(site, workload).delete(workload.key.name.as_str(), &DeleteParams::default()).await?;
    Ok(())
}

/// Looks again and again until there is something to see.
async fn until<T, F>(what: &str, look: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, seen).await.with_context(|| format!("waited {PATIENCE:?} for {what}"))
}

/// Watches for a workload's import; what comes back waits for it.
async fn watch_import(
    site: &Site,
    workload: &Workload,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let api: Api<ServiceImport> =
        Api::namespaced(site.client.clone(), workload.key.namespace.as_str());
    let mut changes = Box::pin(watch(api, WatchConfig::default()));
    let listed = async {
        while changes.next().await.is_some_and(|change| !matches!(change, Change::Listed)) {}
    };
    timeout(PATIENCE, listed).await.context("the watch did not begin")?;
    let name = workload.key.name.to_string();
    Ok(async move {
        while let Some(change) = changes.next().await {
            if matches!(&change, Change::Apply(import) if import.metadata.name.as_deref() == Some(&name))
            {
                return;
            }
        }
    })
}

/// Waits, in one cluster, for the import, for the name and for the first answer.
async fn arrive(
    site: &Site,
    workload: &Workload,
    begun: Instant,
    import: impl Future<Output = ()>,
) -> anyhow::Result<Seen> {
    let import = async {
        timeout(PATIENCE, import)
            .await
            .with_context(|| format!("no import within {PATIENCE:?}"))?;
        anyhow::Ok(begun.elapsed())
    };
    let name = workload.dns_name();
    let call = async {
        let address: Ipv4Addr =
            until("the name", || async { site.caller.resolve(&name).await.ok().flatten() }).await?;
        let answer = begun.elapsed();
        let target = (address, workload.called_port()).into();
        let reply = until("an answer", || async { site.caller.call(target).await.ok() }).await?;
        anyhow::Ok((answer, begun.elapsed(), reply.caller))
    };
    let (import, (answer, call, caller)) = tokio::try_join!(import, call)?;
    Ok(Seen { import, answer, call, caller })
}
