//! Who keeps the slices: a process of its own that watches them, as ours does or as kube's reflector does.
//!
//! It says `listed` each time that it has a complete picture, and ends when its standard input does.

use std::{io, process};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use landbridge_api::watch::Change;
use landbridge_controller::{
    observed::{Event, Observed},
    watches,
};

use crate::{slices::Kind, world};

/// What the controller uses.
pub(crate) const OURS: &str = "landbridge";
/// What a controller on kube-rs uses.
pub(crate) const REFLECTOR: &str = "kube's reflector";

/// Keeps slices in the role that `role` says: who, of which kind, from which API.
pub(crate) async fn keep(role: &[String]) -> anyhow::Result<()> {
    let [who, kind, url] = role else {
        bail!("a keeper is told who it is, what it keeps and of which API");
    };
    std::thread::spawn(|| {
        // Whoever measures us has gone.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    let kind = Kind::parse(kind).context("a kind of slices")?;
    match who.as_str() {
        OURS => observe(kind, url).await,
        REFLECTOR => reflect(url).await,
        other => bail!("nobody is called {other}"),
    }
}

/// As `landbridge_controller::run` does: the same streams, and the same state takes in what they tell.
async fn observe(kind: Kind, url: &str) -> anyhow::Result<()> {
    let client = world::client(url)?;
    let mut observed = Observed::new(world::config("paris")?);
    let mut events = match kind {
        Kind::Hub => watches::hub_slices(client).boxed(),
        Kind::Own | Kind::Pods => watches::slices(client).boxed(),
    };
    let mut endpoints = 0;
    while let Some(event) = events.next().await {
        match &event {
            Event::EndpointSlice(change) | Event::HubSlice(change) => match change {
                Change::Apply(slice) => endpoints += slice.endpoints.len(),
                Change::Listing => endpoints = 0,
                _ => {}
            },
            _ => {}
        }
        let is_listed =
            matches!(event, Event::EndpointSlice(Change::Listed) | Event::HubSlice(Change::Listed));
        let touched = observed.take(event);
        if let Some(problem) = touched.problems.first() {
            bail!("{}: {}", problem.about, problem.sentence);
        }
        if is_listed {
            println!("listed {endpoints}");
        }
    }
    bail!("the watch has ended")
}

/// As kube's own documentation does, with its defaults.
async fn reflect(url: &str) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::all(world::client(url)?);
    let (reader, writer) = reflector::store();
    let events = watcher(slices, watcher::Config::default());
    let events = reflector(writer, events).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            let endpoints: usize = reader.state().iter().map(|slice| slice.endpoints.len()).sum();
            println!("listed {endpoints}");
        }
    }
    bail!("the watch has ended")
}
