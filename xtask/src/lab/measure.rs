//! How long it takes from an export to the first call from another cluster, by stage.
//!
//! A pod of the second cluster asks without a pause until it has an answer, and says when; it begins before there is an
//! export, so that what starting it takes is no part of the time. All clocks are the machine's.

use std::{
    io::{BufRead as _, BufReader},
    pin::pin,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use super::{Cluster, Lab};

const VERSION: &str = "multicluster.x-k8s.io/v1beta1";
/// Everything of it.
const NAMESPACE: &str = "landbridge-measure";
/// What has not come by then does not come.
const PATIENCE: &str = "60";
const SECONDS: u32 = 60;
/// kube-proxy writes its rules once a second at most, and takes two turns for a new Service: one without its endpoints,
/// which refuses calls, and one with them. An export right after another one would wait for that one's turns too.
const PAUSE: Duration = Duration::from_millis(1500);
/// What it prints is when a stage was over, in nanoseconds. A call without an answer is made again soon: the moment that is
/// measured is the one from which calls are answered, and not when a patient client would have noticed.
const CALLS: &str = r#"name=$1.$2.svc.clusterset.local
echo begun
until dig +short +time=1 +tries=1 $name | grep -q .; do sleep 0.01; done
date +%s%N
until timeout 0.3 nc $name 42 </dev/null | grep -q 'pod ip'; do sleep 0.01; done
date +%s%N"#;
const STAGES: [&str; 3] = ["export → import", "import → name", "name → call"];
const WHOLE: &str = "export → call";

/// Measures this many exports; what is printed.
pub(super) fn measure(lab: &Lab, exports: usize) -> Result<String> {
    ensure!(exports > 0, "how many exports?");
    ensure!(lab.options().clusters > 1, "it needs two clusters");
    lab.installed().context("Landbridge is not installed: `cargo xtask lab install`")?;
    let [exporter, caller] = [lab.cluster(1)?, lab.cluster(2)?];
    let measured = prepare(exporter, caller, exports).and_then(|()| {
        lab.run(async || {
            let clients = [exporter.client().await?, caller.client().await?];
            let mut measured = Vec::new();
            for number in 0..exports {
                tokio::time::sleep(PAUSE).await;
                let service = format!("m{number}");
                measured.push(one(&clients[0], &clients[1], caller, &service).await?);
            }
            Ok(measured)
        })
    });
    for cluster in [exporter, caller] {
        cluster.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"])?;
    }
    Ok(table(&measured?))
}

/// A pod that answers behind a Service for each export, and a pod that calls.
fn prepare(exporter: Cluster<'_>, caller: Cluster<'_>, exports: usize) -> Result<()> {
    for cluster in [exporter, caller] {
        cluster.kubectl(&["create", "namespace", NAMESPACE])?;
    }
    let pod = |name: &str, container: serde_json::Value| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}})
    };
    let answers = json!({"name": "web", "image": "alpine/socat:1.7.4.4",
        "args": ["TCP6-LISTEN:42,fork,reuseaddr", "SYSTEM:echo pod ip"]});
    let calls = json!({"name": "request", "image": "nicolaka/netshoot:v0.15",
        "command": ["sleep", "infinity"]});
    let services = (0..exports).map(|number| {
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("m{number}"), "namespace": NAMESPACE},
            "spec": {"selector": {"app": "web"}, "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"name": "tcp", "port": 42}]}})
    });
    let objects: Vec<_> = services.chain([pod("web", answers)]).collect();
    exporter.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    caller.apply(&pod("request", calls).to_string())?;
    for (cluster, name) in [(exporter, "pod/web"), (caller, "pod/request")] {
        let wait = ["wait", "--for=condition=Ready", "--timeout=90s", "--namespace", NAMESPACE];
        cluster.kubectl(&[&wait[..], &[name]].concat())?;
    }
    Ok(())
}

/// One export: how long each stage took.
async fn one(
    exporter: &Client,
    importer: &Client,
    caller: Cluster<'_>,
    service: &str,
) -> Result<[Duration; 3]> {
    let exec = ["timeout", PATIENCE, "kubectl", "exec", "--namespace", NAMESPACE, "request", "--"];
    let script = ["sh", "-c", CALLS, "calls", service, NAMESPACE];
    let command: Vec<String> = exec.iter().chain(&script).map(ToString::to_string).collect();
    let mut command = caller.command(&command)?;
    let mut calls = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let said = calls.stdout.take().context("a pipe")?;
    let mut said = BufReader::new(said).lines();
    let mut next = || said.next().context("the pod has no answer")?.map_err(anyhow::Error::from);
    // These block the thread, which has nothing else to do meanwhile.
    ensure!(next()? == "begun", "the pod does not call");
    let only = WatchParams::default().fields(&format!("metadata.name={service}"));
    let imports = objects(importer, "ServiceImport");
    let mut news = pin!(imports.watch(&only.timeout(SECONDS), "0").await?);
    let export = json!({"apiVersion": VERSION, "kind": "ServiceExport",
        "metadata": {"name": service, "namespace": NAMESPACE}});
    let exported = now()?;
    let exports = objects(exporter, "ServiceExport");
    exports.create(&PostParams::default(), &serde_json::from_value(export)?).await?;
    while !matches!(news.try_next().await?.context("there is no import")?, WatchEvent::Added(_)) {}
    let imported = now()?;
    let [named, called] = [next()?, next()?];
    calls.wait()?;
    let named = Duration::from_nanos(named.parse()?);
    let called = Duration::from_nanos(called.parse()?);
    // What is seen on two ways can be seen in another order than it happened.
    Ok([
        imported.min(named).saturating_sub(exported),
        named.saturating_sub(imported),
        called.saturating_sub(named),
    ])
}

fn objects(client: &Client, kind: &str) -> Api<DynamicObject> {
    let (group, version) = VERSION.split_once('/').unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Since 1970, as pods tell it.
fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// Half of all, nearly all, and all took no longer than this, for each stage and for the whole.
fn table(measured: &[[Duration; 3]]) -> String {
    let stages =
        (0..STAGES.len()).map(|at| (STAGES[at], measured.iter().map(|one| one[at]).collect()));
    let whole = (WHOLE, measured.iter().map(|one| one.iter().sum()).collect::<Vec<Duration>>());
    let mut text = format!(
        "{} exports, one after the other, in ms\n{:<18} {:>7} {:>7} {:>7}\n",
        measured.len(),
        "",
        "p50",
        "p99",
        "max"
    );
    for (name, mut all) in stages.chain([whole]) {
        all.sort_unstable();
        // The nearest rank: of fifty the 99th percentile is the longest.
        let rank = |percent: usize| all[(all.len() * percent).div_ceil(100).max(1) - 1];
        let ms = [rank(50), rank(99), rank(100)].map(|time| time.as_secs_f64() * 1000.0);
        text += &format!("{name:<18} {:>7.0} {:>7.0} {:>7.0}\n", ms[0], ms[1], ms[2]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentiles_are_nearest_ranks_and_the_whole_is_the_sum() {
        let ms = |ms: u64| Duration::from_millis(ms);
        let measured: Vec<_> = (1..=50).map(|n| [ms(n), ms(0), ms(100)]).collect();
        let text = table(&measured);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let words = line[name.len()..].split_whitespace();
            words.map(|word| word.parse().unwrap()).collect::<Vec<u64>>()
        };
        assert_eq!(row(STAGES[0]), [25, 50, 50]);
        assert_eq!(row(STAGES[2]), [100, 100, 100]);
        assert_eq!(row(WHOLE), [125, 150, 150]);
    }
}
