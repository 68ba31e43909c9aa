//! `landbridge verify`: makes a service in each cluster of a set, calls it by name from each, says how that went, and takes all
//! of it away again, whatever happens.

use std::{collections::BTreeSet, io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow};
use data_encoding::BASE32HEX_NOPAD;
use futures::future::{join_all, try_join_all};
use landbridge_model::Namespace;
use tokio_util::sync::CancellationToken;

use super::{
    component::runtime,
    output::{Format, print, render},
    token::random,
};
use crate::{
    config::{common::Reach, value},
    exit::Usage,
    shutdown,
    verify::{judge, place::Place, report::Report, seen::Seen},
};

/// Of the time in all, what is kept for taking everything away.
const CLEANING: Duration = Duration::from_secs(15);
/// Less than this is not enough for pods to start.
const LEAST: Duration = Duration::from_secs(20);

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How to reach the clusters' Kubernetes APIs: one file for all contexts, or one for each cluster [default: as kubectl
    /// does].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Vec<PathBuf>,
    /// Context of a cluster; once for each [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Vec<String>,
    /// What the namespace is called that is made for it; it must not be there [default: landbridge-verify- and five
    /// letters].
    #[arg(long, value_name = "NAME")]
    namespace: Option<Namespace>,
    /// What its pods run [default: what the cluster's controller runs].
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How long it may take, taking everything away included.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = value::duration)]
    timeout: Duration,
    /// Print how it went for a program.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Does it, and says how it went.
///
/// # Errors
/// Clusters that cannot be asked or are not of one set, before anything is made; pairs of clusters that do not reach each
/// other.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let reaches = reaches(&arguments.kubeconfig, &arguments.context).map_err(Usage)?;
    if arguments.timeout < LEAST {
        return Err(Usage(format!("--timeout: give {LEAST:?} at least")).into());
    }
    let report = runtime()?.block_on(async {
        let stop = shutdown::on_signal().context("cannot wait for signals")?;
        Box::pin(verify(arguments, &reaches, &stop)).await
    })?;
    let text = match arguments.output {
        Some(format) => render(format, &report.described())?,
        None => report.text(),
    };
    print(out, &text)?;
    if report.holds() { Ok(()) } else { Err(anyhow!(report.verdict())) }
}

/// How each cluster is reached.
fn reaches(files: &[PathBuf], contexts: &[String]) -> Result<Vec<Reach>, String> {
    let reach = |kubeconfig: Option<&PathBuf>, context: Option<&String>| Reach {
        kubeconfig: kubeconfig.cloned(),
        context: context.cloned(),
    };
    match (files, contexts) {
        ([], []) => Ok(vec![reach(None, None)]),
        (files @ ([] | [_]), contexts @ [_, ..]) => {
            Ok(contexts.iter().map(|context| reach(files.first(), Some(context))).collect())
        }
        (files, []) => Ok(files.iter().map(|file| reach(Some(file), None)).collect()),
        (files, contexts) if files.len() == contexts.len() => {
            let both = files.iter().zip(contexts);
            Ok(both.map(|(file, context)| reach(Some(file), Some(context))).collect())
        }
        _ => Err("give one --kubeconfig for all, or one for each --context, in their order".into()),
    }
}

async fn verify(
    arguments: &Arguments,
    reaches: &[Reach],
    stop: &CancellationToken,
) -> Result<Report> {
    let begun = tokio::time::Instant::now();
    let image = arguments.image.as_deref();
    let places = try_join_all(reaches.iter().map(|reach| Place::at(reach, image))).await?;
    let set = one_set(&places)?;
    let namespace = match &arguments.namespace {
        Some(namespace) => namespace.to_string(),
        None => format!("landbridge-verify-{}", suffix(random()?)),
    };
    join_all(places.iter().map(Place::sweep)).await;
    try_join_all(places.iter().map(|place| place.vacant(&namespace))).await?;
    let within = arguments.timeout.saturating_sub(begun.elapsed()).saturating_sub(CLEANING);
    let outcome = tokio::select! {
        outcome = Box::pin(calls(&places, &namespace, within)) => outcome,
        () = stop.cancelled() => Err(anyhow!("ended by a signal, before everybody was called")),
    };
    let left = join_all(places.iter().map(|place| place.end(&namespace, CLEANING))).await;
    let left: Vec<String> = left.into_iter().flatten().collect();
    let seen = match outcome {
        Ok(seen) => seen,
        Err(error) if left.is_empty() => return Err(error),
        Err(error) => return Err(error.context(format!("not taken away: {}", left.join(", ")))),
    };
    let problems = judge::problems(&seen, &namespace);
    Ok(Report { set, namespace, seen, problems, left })
}

/// The set that all are members of.
fn one_set(places: &[Place]) -> Result<String> {
    let ids: BTreeSet<&str> = places.iter().map(|place| place.cluster.as_str()).collect();
    if ids.len() < places.len() {
        let names: Vec<&str> = places.iter().map(|place| place.cluster.as_str()).collect();
        return Err(
            Usage(format!("a cluster is named twice: they are {}", names.join(", "))).into()
        );
    }
    let sets: BTreeSet<String> = places.iter().map(|place| place.set.to_string()).collect();
    if sets.len() > 1 {
        let members = places.iter().map(|place| format!("{} of {}", place.cluster, place.set));
        let members: Vec<String> = members.collect();
        return Err(Usage(format!("they are not of one set: {}", members.join(", "))).into());
    }
    Ok(sets.into_iter().next().unwrap_or_default())
}

async fn calls(places: &[Place], namespace: &str, within: Duration) -> Result<Vec<Seen>> {
    // A namespace means the same everywhere, so that it has to be there everywhere before anything is exported.
    try_join_all(places.iter().map(|place| place.begin(namespace))).await?;
    let all: Vec<String> = places.iter().map(|place| place.cluster.to_string()).collect();
    Ok(join_all(places.iter().map(|place| place.run(&all, namespace, within))).await)
}

/// Five letters and digits that nobody has drawn before, as good as surely.
fn suffix(drawn: [u8; 32]) -> String {
    BASE32HEX_NOPAD.encode(&drawn).to_lowercase().chars().take(5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_contexts_of_one_file_or_files_of_their_own() {
        let reached = |files: &[&str], contexts: &[&str]| {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let contexts: Vec<String> = contexts.iter().map(ToString::to_string).collect();
            let reaches = reaches(&files, &contexts)?;
            let shown = reaches.into_iter().map(|reach| {
                let file = reach.kubeconfig.map(|path| path.display().to_string());
                [file.unwrap_or_default(), reach.context.unwrap_or_default()].join("/")
            });
            Ok::<Vec<String>, String>(shown.collect())
        };
        assert_eq!(reached(&[], &[]).unwrap(), ["/"]);
        assert_eq!(reached(&[], &["a", "b"]).unwrap(), ["/a", "/b"]);
        assert_eq!(reached(&["f"], &["a", "b"]).unwrap(), ["f/a", "f/b"]);
        assert_eq!(reached(&["f", "g"], &[]).unwrap(), ["f/", "g/"]);
        assert_eq!(reached(&["f", "g"], &["a", "b"]).unwrap(), ["f/a", "g/b"]);
        assert!(reached(&["f", "g"], &["a"]).is_err());
    }

    #[test]
    fn a_namespace_is_one_that_kubernetes_takes() {
        for drawn in [[0; 32], [255; 32], [77; 32]] {
            let name = format!("landbridge-verify-{}", suffix(drawn));
            assert!(Namespace::parse(&name).is_ok(), "{name}");
        }
    }
}
