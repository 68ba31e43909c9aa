//! What `landbridge init` and `landbridge join` share: they look, show what they found and what would change, and do it.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use kube::Client;
use landbridge_api::{crds, crds::installed::applicable};
use landbridge_model::Timestamp;
use serde_json::Value;

use super::{dns, output::print};
use crate::{
    config::value,
    corefile::{self, Stanza},
    enroll::job,
    exit::Usage,
    init::{
        Key, apply,
        checks::{self, Finding, Role, Seen},
        choice::Choice,
        facts,
        plan::{Change, Step},
        shown, wait, wanted,
    },
    manifests::settings::Settings,
};

/// How long a load balancer may take to have an address: two minutes in the slowest of clouds.
const BALANCER: Duration = Duration::from_secs(120);

/// How far it goes.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Look at everything and show what would change, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Take over fields that somebody else has written.
    #[arg(long)]
    pub(super) force_conflicts: bool,
    /// How long to wait until everything runs; 0s does not wait.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = value::duration)]
    pub(super) timeout: Duration,
}

/// What there is, and what is to be done.
pub(super) struct Survey {
    pub(super) settings: Settings,
    choice: Choice,
    wanted: Vec<Value>,
    found: Vec<Finding>,
    steps: Vec<Step>,
    /// Whether the cluster's own DNS can be told of ours.
    tells_dns: bool,
}

/// What was chosen, now or before.
pub(super) async fn chosen(client: &Client, flags: &Choice) -> Result<Choice> {
    let before = facts::chosen(client).await?;
    let before = before.map_or_else(|| Ok(Choice::default()), |data| Choice::from_data(&data));
    let before = before.map_err(|problem| {
        let place = wanted::CHOICE_PLACE;
        Usage(format!(
            "ConfigMap {place} cannot be read ({problem}): correct it, or delete it and give all flags again"
        ))
    })?;
    Ok(flags.clone().over(before))
}

/// Looks at everything, and changes nothing.
pub(super) async fn survey(
    client: &Client,
    choice: &Choice,
    settings: Settings,
    role: &Role,
    force: bool,
) -> Result<Survey> {
    let server = facts::server(client).await?;
    let mut wanted = wanted::all(&settings, choice, crds::all())?;
    if let Some(hub) = &settings.hub {
        wanted.extend(job::objects(&settings, hub)?);
    }
    let denied = facts::denied(client, &wanted).await?;
    if !denied.is_empty() {
        let found = checks::rights(&Seen { server, denied, ..Seen::default() });
        let (choice, steps) = (choice.clone(), Vec::new());
        return Ok(Survey { settings, choice, wanted, found, steps, tells_dns: false });
    }
    let (apply, kept) = applicable(crds::all(), &facts::definitions(client).await?);
    let wanted = wanted::all(&settings, choice, apply)?;
    let (objects, refused) = facts::preview(client, &wanted, force).await?;
    let mut steps = facts::secrets(client, role).await?;
    steps.extend(objects);
    let dns = untold(facts::corefile(client).await?.as_deref());
    let seen = Seen {
        server,
        denied,
        kept,
        properties: facts::properties(client).await?,
        root: facts::root(client).await?,
        follows_a_hub: facts::follows_a_hub(client).await?,
        dns: dns.clone(),
        refused,
        // What a load balancer will tell is told then.
        is_advertised: !settings.advertise.is_empty() || settings.waits_for_an_address(),
    };
    let found = checks::all(&seen, &settings.cluster, &settings.set, role);
    let (choice, tells_dns) = (choice.clone(), dns.is_none());
    Ok(Survey { settings, choice, wanted, found, steps, tells_dns })
}

/// Why the cluster's own DNS cannot be told of ours, if it cannot.
fn untold(corefile: Option<&str>) -> Option<String> {
    let Some(corefile) = corefile else {
        return Some("there is no Corefile in ConfigMap kube-system/coredns: put what `landbridge dns print` prints where this cluster's DNS has its configuration".into());
    };
    let stanza = Stanza { zone: dns::ZONE, servers: &[] };
    corefile::enabled(corefile, &stanza).err().map(|refusal| refusal.to_string())
}

/// Shows what was found and what would change; whether it is to be done.
///
/// # Errors
/// What stands in the way.
pub(super) fn show(
    survey: &Survey,
    effort: Effort,
    role: &Role,
    out: &mut dyn Write,
) -> Result<bool> {
    print(out, &shown::findings(&survey.found))?;
    if let Some(obstacles) = shown::obstacles(&survey.found) {
        return Err(Usage(obstacles).into());
    }
    let Settings { cluster, set, .. } = &survey.settings;
    print(out, &shown::plan(&survey.steps, cluster, set, role))?;
    if effort.dry_run {
        print(out, "Nothing was changed (--dry-run).\n")?;
    }
    Ok(!effort.dry_run)
}

/// Does it. Secrets, which pods wait for, are made by `secrets` once there are namespaces and kinds; it may say that the cluster
/// has joined more often than was thought.
pub(super) async fn carry_out(
    client: &Client,
    survey: &Survey,
    effort: Effort,
    secrets: impl AsyncFnOnce() -> Result<Option<u64>>,
    out: &mut dyn Write,
) -> Result<()> {
    let is_ground = |object: &&Value| {
        matches!(object["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition"))
    };
    let (ground, rest): (Vec<&Value>, Vec<&Value>) = survey.wanted.iter().partition(is_ground);
    put(client, survey, &ground, effort).await?;
    apply::established(client, &wanted::kinds(&survey.wanted)).await?;
    let generation = Box::pin(secrets()).await?.unwrap_or(survey.settings.generation);
    if generation == survey.settings.generation {
        put(client, survey, &rest, effort).await?;
    } else {
        again(client, survey, generation, effort).await?;
    }
    if survey.settings.own_hub {
        apply::counted(client, &survey.settings.cluster).await?;
    }
    print(out, "Everything is applied.\n")?;
    if effort.timeout > Duration::ZERO {
        let mut progress = Progress::default();
        if survey.settings.waits_for_an_address() {
            let told = address(client, survey, generation, effort, &mut progress);
            let told = Box::pin(told).await?;
            print(out, &told)?;
        }
        wait::ready(client, effort.timeout, |waited| progress.tell(waited)).await?;
        progress.end();
        print(out, "Controller, DNS server and gateways are ready.\n")?;
    }
    if survey.tells_dns {
        let told = dns::enable(client).await.context("the cluster's own DNS")?;
        print(out, &told)?;
    }
    Ok(())
}

/// Waits for the address of the load balancer, and has it told to the other members. Says what came of it.
async fn address(
    client: &Client,
    survey: &Survey,
    generation: u64,
    effort: Effort,
    progress: &mut Progress,
) -> Result<String> {
    let tell = |waited: &str| progress.tell(waited);
    let found = wait::address(client, effort.timeout.min(BALANCER), tell).await?;
    progress.end();
    let Some(choice) = found.chosen(&survey.choice) else { return Ok(found.told()) };
    let Settings { own_hub, ref hub, .. } = survey.settings;
    let settings = Settings { hub: hub.clone(), ..choice.settings(generation, own_hub)? };
    for object in wanted::all(&settings, &choice, Vec::new())? {
        if !survey.wanted.contains(&object) {
            apply::object(client, &object, effort.force_conflicts).await?;
        }
    }
    Ok(found.told())
}

/// Writes everything as it is for a cluster that has joined so often.
async fn again(client: &Client, survey: &Survey, generation: u64, effort: Effort) -> Result<()> {
    let settings = Settings { generation, ..survey.settings.clone() };
    for object in wanted::all(&settings, &survey.choice, Vec::new())? {
        apply::object(client, &object, effort.force_conflicts).await?;
    }
    Ok(())
}

/// Writes what is not as it should be.
async fn put(client: &Client, survey: &Survey, objects: &[&Value], effort: Effort) -> Result<()> {
    for object in objects {
        let key = Key::of(object);
        let step = survey.steps.iter().find(|step| step.key == key);
        if step.is_none_or(|step| step.change != Change::Keep) {
            apply::object(client, object, effort.force_conflicts).await?;
        }
    }
    Ok(())
}

/// What is waited for, on a terminal alone: one line that is written over.
#[derive(Default)]
pub(super) struct Progress {
    last: String,
}

impl Progress {
    pub(super) fn tell(&mut self, waited: &str) {
        let mut terminal = io::stderr();
        if terminal.is_terminal() && self.last != waited {
            waited.clone_into(&mut self.last);
            // Nobody may be looking.
            let _ = write!(terminal, "\r\x1b[K  … {waited}");
        }
    }

    pub(super) fn end(&self) {
        if !self.last.is_empty() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}
