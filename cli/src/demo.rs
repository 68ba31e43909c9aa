//! `landbridge demo`: a clusterset on one machine, without Kubernetes, root or network.
//!
//! Every controller, DNS server and gateway is the real component; only the Kubernetes API and the service proxy
//! underneath are the embedded ones, and the wide area network between the clusters is one that can be cut. All of
//! it runs in this process, as named tasks, on loopback addresses.

mod caller;
mod echo;
mod layout;
mod narrator;
mod report;
mod site;
mod story;
mod tasks;
mod wan;
mod workload;

use std::{io::Write, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use self::{
    echo::Arrivals,
    layout::{HIGHEST_OCTET, Layout, MOST_CLUSTERS, Place},
    narrator::Narrator,
    report::Report,
    site::{Hub, Site},
    story::Story,
    tasks::Tasks,
    wan::Wan,
    workload::Workload,
};

/// Shows Landbridge on this machine: clusters, an export, calls through the tunnel, a cluster that dies.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many clusters, 2 to 10.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=MOST_CLUSTERS as i64))]
    clusters: u8,
    /// Tell the story and exit, instead of staying for you to try things.
    #[arg(long)]
    once: bool,
    /// Print the measurements as one JSON object instead of the story, and exit.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Export the Services and ServiceExports of this folder; the demo puts echo endpoints behind them.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// The second octet of the loopback addresses to use: 127.N.0.0/16 for the hub, the next ones for the clusters.
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u8).range(1..=HIGHEST_OCTET as i64))]
    loopback: u8,
}

/// How measurements are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    /// One JSON object.
    Json,
}

/// The file with the hub's kubeconfig, beside those of the clusters.
const HUB_KUBECONFIG: &str = "hub.kubeconfig";

/// The clusters of a demo, running.
struct Stage {
    sites: Vec<Site>,
    hub: Hub,
    wan: Wan,
    arrivals: Arrivals,
    tasks: Tasks,
    /// Holds the kubeconfig files; gone with the demo.
    folder: tempfile::TempDir,
}

/// Runs the demo until it is told or interrupted.
///
/// # Errors
/// What could not be set up, with the remedy. A story that went wrong is told in the report and the exit code.
pub(crate) async fn run(
    args: Arguments,
    interrupted: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let json = args.output == Some(Output::Json);
    let workloads = match &args.manifests {
        Some(folder) => workload::read(folder)?,
        None => workload::builtin()?,
    };
    let layout = Layout::new(args.loopback);
    let places = layout.places(args.clusters.into());
    check_loopback(&places)?;
    let mut narrator = Narrator::new(!json);
    narrator.say(&format!(
        "Landbridge on this machine: {} clusters, no Kubernetes, no root, no network.\nEverything is the real component; only the Kubernetes API underneath is the embedded one.",
        places.len()
    ));
    narrator.wait("starting the clusters");
    let mut stage = Stage::set(layout, places, &workloads).await.with_context(|| {
        format!(
            "the demo cannot be set up on 127.{}.0.0/16 and the next (choose others with --loopback N)",
            args.loopback
        )
    })?;
    let mut report = Report {
        clusters: stage.sites.iter().map(|site| site.name().to_owned()).collect(),
        ready_ms: Some(begun.elapsed().into()),
        ..Report::default()
    };
    introduce(&mut narrator, &stage, &report);
    let told = tokio::select! {
        () = interrupted.cancelled() => None,
        ended = stage.tasks.ended() => Some(Err(ended)),
        told = async {
            let parts = (&*stage.sites, &stage.wan, &stage.arrivals);
            story(parts, &workloads, &mut narrator, &mut report)?.tell().await
        } => Some(told),
    };
    if let Some(Err(error)) = &told {
        report.problems.push(format!("{error:#}"));
        narrator.say(&format!("This did not go as it should: {error:#}"));
    }
    report.ok = matches!(told, Some(Ok(())));
    let mut stayed = Ok(());
    if json {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else if report.ok && !args.once {
        stayed = stay(&mut narrator, &mut stage, &workloads, &mut report, &interrupted).await;
    }
    stage.strike().await.and(stayed)?;
    Ok(if report.ok || told.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Finds out before anything starts whether this system has the addresses that the demo lives on.
fn check_loopback(places: &[Place]) -> anyhow::Result<()> {
    for place in places {
        let address = std::net::SocketAddr::from((place.gateway(), 0));
        std::net::TcpListener::bind(address).map_err(|error| {
            anyhow::anyhow!(
                "this system does not answer on {}: {error}. The demo needs the whole loopback range 127.0.0.0/8, as Linux has it; on macOS run it in a Linux container or virtual machine",
                place.gateway()
            )
        })?;
    }
    Ok(())
}

impl Stage {
    /// Starts everything and waits until it is ready.
    async fn set(
        layout: Layout,
        places: Vec<Place>,
        workloads: &[Workload],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("landbridge-demo-")
            .tempdir()
            .context("a temporary folder")?;
        let mut tasks = Tasks::new(CancellationToken::new());
        let hub = Hub::start(layout, &places).await?;
        std::fs::write(folder.path().join(HUB_KUBECONFIG), hub.cluster().kubeconfig())?;
        let wan = Wan::new(layout, places.len());
        let arrivals = Arrivals::default();
        let mut sites = Vec::new();
        for place in places {
            let site = Site::start(place, &hub, &wan, folder.path(), &mut tasks).await?;
            for workload in workloads {
                site.deploy(workload, &arrivals, &mut tasks)
                    .await
                    .with_context(|| format!("{} in {}", workload.key, site.name()))?;
            }
            sites.push(site);
        }
        tasks.ready().await?;
        Ok(Self { sites, hub, wan, arrivals, tasks, folder })
    }

    /// Stops everything and leaves nothing behind.
    async fn strike(self) -> anyhow::Result<()> {
        let stopped = self.tasks.stop().await;
        for site in self.sites {
            site.stop().await;
        }
        self.hub.into_cluster().stop().await;
        self.folder.close().context("the temporary folder")?;
        stopped
    }
}

/// The story of these clusters and workloads, to be told.
fn story<'a>(
    (sites, wan, arrivals): (&'a [Site], &'a Wan, &'a Arrivals),
    workloads: &'a [Workload],
    narrator: &'a mut Narrator,
    report: &'a mut Report,
) -> anyhow::Result<Story<'a>> {
    let (workload, others) = workloads.split_first().context("there is nothing to export")?;
    Ok(Story { sites, wan, workload, others, arrivals, narrator, report })
}

fn introduce(narrator: &mut Narrator, stage: &Stage, report: &Report) {
    let ready = report.ready_ms.map(|ms| format!(" after {ms}")).unwrap_or_default();
    narrator.step(&format!("0. The clusters are up{ready}"));
    narrator.say(&format!("{:<10} {:<20} {:<20} gateway (QUIC)", "", "Kubernetes API", "DNS"));
    for site in &stage.sites {
        let (api, dns) = (site.place.api().to_string(), site.place.dns().to_string());
        narrator.say(&format!("{:<10} {api:<20} {dns:<20} {}", site.name(), site.place.public()));
    }
    narrator.say("Ports are above 1024, since no privilege is asked for.");
}

/// Leaves everything running for people to try, until interrupted.
async fn stay(
    narrator: &mut Narrator,
    stage: &mut Stage,
    workloads: &[Workload],
    report: &mut Report,
    interrupted: &CancellationToken,
) -> anyhow::Result<()> {
    let parts = (&*stage.sites, &stage.wan, &stage.arrivals);
    let target = story(parts, workloads, narrator, report)?.export_again().await?;
    let (Some(exporter), Some(calling)) = (stage.sites.first(), stage.sites.last()) else {
        return Ok(());
    };
    let workload = &workloads[0];
    narrator.step("Try it from another terminal; the service is exported again");
    let (place, config) = (&calling.place, calling.kubeconfig.display());
    narrator.say(&format!("kubectl --kubeconfig {config} get serviceimports -A"));
    narrator.say(&format!(
        "dig @{} -p {} {}",
        place.dns().ip(),
        place.dns().port(),
        workload.dns_name()
    ));
    narrator.say(&format!("curl --interface {} http://{target}/", calling.caller_address()));
    narrator.say(&format!("curl http://{}/metrics", place.gateway_admin()));
    narrator.say(&format!(
        "kubectl --kubeconfig {} get members,clusterexports -A",
        stage.folder.path().join(HUB_KUBECONFIG).display()
    ));
    narrator.say(&format!(
        "kubectl --kubeconfig {} delete serviceexport -n {} {}",
        exporter.kubeconfig.display(),
        workload.key.namespace,
        workload.key.name
    ));
    narrator.step("Ctrl-C ends it");
    tokio::select! {
        () = interrupted.cancelled() => Ok(()),
        ended = stage.tasks.ended() => Err(ended),
    }
}
