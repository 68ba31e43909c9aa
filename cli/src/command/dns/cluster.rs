//! `landbridge dns enable|disable|print`: the cluster's own DNS server is told where names of the set are known.
//!
//! Only the Corefile in CoreDNS's usual ConfigMap is changed, and in it only a stanza of ours.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;
use landbridge_dns::Zone;
use serde_json::json;

use crate::{
    command::{api::ApiArguments, component::runtime, output::print},
    corefile::{self, Stanza},
    exit::Usage,
};

/// What is asked there, unless something else is said.
pub(crate) const ZONE: &str = "clusterset.local";
/// Where kubeadm and most others keep what CoreDNS reads.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "coredns";
const KEY: &str = "Corefile";
/// What our own server is behind.
pub(crate) const SERVICE: &str = "landbridge-dns";
const PORT: u16 = 53;
/// What is said of a Corefile that has no stanza of ours, and of one that has none now.
const DISABLED: (&str, &str) = ("nothing of ours is in it", "the Corefile is as it was before");
/// What is said of a Corefile that has the stanza already, and of one that has it now.
const ENABLED: (&str, &str) = ("it is so already", "CoreDNS asks our server for names of the set");
/// Others write the ConfigMap once in a while: they do not do it again and again.
const TRIES: usize = 5;

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Take the stanza out of CoreDNS's Corefile, which is then as it was before.
    Disable {
        #[command(flatten)]
        api: ApiArguments,
    },
    /// Put a stanza into CoreDNS's Corefile, without a cache, by which it asks our server for names of the set.
    Enable {
        #[command(flatten)]
        api: ApiArguments,
        #[command(flatten)]
        asked: Asked,
    },
    /// Print the stanza, for a Corefile that is kept elsewhere.
    Print {
        #[command(flatten)]
        api: ApiArguments,
        #[command(flatten)]
        asked: Asked,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct Asked {
    /// Where our DNS server is asked [default: the ClusterIPs of the Service landbridge-system/landbridge-dns].
    #[arg(long = "server", value_name = "IP[:PORT]", value_parser = server)]
    servers: Vec<SocketAddr>,
    /// What is asked there.
    #[arg(long, value_name = "NAME", default_value = ZONE, value_parser = zone)]
    zone: String,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| (address, PORT).into());
    address.or_else(|_| text.parse()).map_err(|_| {
        "is not where a server listens: give an address such as 10.96.0.53 or 192.0.2.11:5300"
            .into()
    })
}

fn zone(text: &str) -> Result<String, String> {
    Zone::parse(text).map_err(|error| error.to_string())?;
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

/// Does it, and says what was done.
///
/// # Errors
/// An API that cannot be reached, a Corefile that is not where it usually is, or one in which somebody else answers.
pub(crate) fn run(what: &What, out: &mut dyn Write) -> Result<()> {
    let text = runtime()?.block_on(async {
        match what {
            What::Disable { api } => {
                let changed = change(&api.client().await?, corefile::disabled).await?;
                Ok(changed.told(DISABLED.0, DISABLED.1))
            }
            What::Enable { api, asked } => {
                let client = api.client().await?;
                let servers = servers(asked, api).await?;
                let stanza = Stanza { zone: &asked.zone, servers: &servers };
                let changed = change(&client, |text| corefile::enabled(text, &stanza)).await?;
                Ok(changed.told(ENABLED.0, ENABLED.1))
            }
            What::Print { api, asked } => {
                let servers = servers(asked, api).await?;
                Ok::<_, anyhow::Error>(Stanza { zone: &asked.zone, servers: &servers }.to_string())
            }
        }
    })?;
    print(out, &text)
}

/// Where our server is asked: as it was said, else as its Service has it.
async fn servers(asked: &Asked, api: &ApiArguments) -> Result<Vec<SocketAddr>> {
    if asked.servers.is_empty() {
        behind_the_service(&api.client().await?).await
    } else {
        Ok(asked.servers.clone())
    }
}

async fn behind_the_service(client: &Client) -> Result<Vec<SocketAddr>> {
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let name = format!("the Service {SYSTEM_NAMESPACE}/{SERVICE}");
    let service = services.get_opt(SERVICE).await.with_context(|| name.clone())?;
    let addresses = service.and_then(|service| service.spec?.cluster_ips).unwrap_or_default();
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .filter_map(|address| Some((address.parse::<IpAddr>().ok()?, PORT).into()))
        .collect();
    if addresses.is_empty() {
        let remedy = "apply what `landbridge manifests` prints, or say with --server where our DNS server is asked";
        return Err(Usage(format!("{name} is not there, or has no address: {remedy}")).into());
    }
    Ok(addresses)
}

/// Tells the cluster's own DNS of our server behind its Service; says what was done.
///
/// # Errors
/// As the command.
pub(crate) async fn enable(client: &Client) -> Result<String> {
    let servers = behind_the_service(client).await?;
    let stanza = Stanza { zone: ZONE, servers: &servers };
    let changed = change(client, |text| corefile::enabled(text, &stanza)).await?;
    Ok(changed.told(ENABLED.0, ENABLED.1))
}

/// Takes our stanza out, where there is one; says what was done. A DNS that is configured elsewhere is not ours to change.
///
/// # Errors
/// As the command.
pub(crate) async fn disable(client: &Client) -> Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let map =
        maps.get_opt(CONFIG_MAP).await.with_context(|| format!("{NAMESPACE}/{CONFIG_MAP}"))?;
    if map.and_then(|map| map.data?.remove(KEY)).is_none() {
        return Ok(format!("{NAMESPACE}/{CONFIG_MAP} is not there: nothing of ours is in it\n"));
    }
    Ok(change(client, corefile::disabled).await?.told(DISABLED.0, DISABLED.1))
}

/// What became of a Corefile.
enum Changed {
    /// It was so before.
    Not,
    /// It is written. CoreDNS sees it by itself where it is told to look.
    Written { reloads: bool },
}

impl Changed {
    fn told(&self, already: &str, done: &str) -> String {
        let soon = "once it has read that, within a minute or two";
        match self {
            Self::Not => format!("{NAMESPACE}/{CONFIG_MAP}: {already}\n"),
            Self::Written { reloads: true } => format!("{done} {soon}\n"),
            Self::Written { reloads: false } => format!(
                "{done} once it is started again, since its Corefile has no `reload`: kubectl --namespace {NAMESPACE} rollout restart deployment coredns\n"
            ),
        }
    }
}

/// Changes the Corefile and nothing else. Where somebody else has written in between, it is read again.
async fn change(
    client: &Client,
    edit: impl Fn(&str) -> Result<String, corefile::Refusal>,
) -> Result<Changed> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let place = format!("the ConfigMap {NAMESPACE}/{CONFIG_MAP}");
    for tries in (0..TRIES).rev() {
        let map = maps.get_opt(CONFIG_MAP).await.with_context(|| place.clone())?;
        let version = map.as_ref().and_then(|map| map.metadata.resource_version.clone());
        let corefile = map.and_then(|map| map.data?.remove(KEY));
        let (Some(before), Some(version)) = (corefile, version) else {
            let remedy = "put what `landbridge dns print` prints where this cluster's DNS has its configuration";
            return Err(Usage(format!("{place} with a {KEY} is not there: {remedy}")).into());
        };
        let after = edit(&before).map_err(|refusal| Usage(refusal.to_string()))?;
        if after == before {
            return Ok(Changed::Not);
        }
        let patch = json!({"metadata": {"resourceVersion": version}, "data": {KEY: after}});
        match maps.patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {
                let reloads = after.lines().any(|line| line.trim_start().starts_with("reload"));
                return Ok(Changed::Written { reloads });
            }
            Err(kube::Error::Api(status)) if status.code == 409 && tries > 0 => {}
            Err(error) => return Err(error).context(place),
        }
    }
    Err(anyhow::anyhow!("{place} is written by somebody else again and again"))
}

#[test]
fn a_server_has_the_usual_port_unless_another_is_written() {
    for (text, address) in [
        ("10.96.0.53", "10.96.0.53:53"),
        ("fd00::35", "[fd00::35]:53"),
        ("192.0.2.11:5300", "192.0.2.11:5300"),
        ("[fd00::35]:5300", "[fd00::35]:5300"),
    ] {
        assert_eq!(server(text).unwrap().to_string(), address);
    }
    assert!(server("dns.example.org").unwrap_err().contains("such as 10.96.0.53"));
    assert_eq!(zone("ClusterSet.local.").unwrap(), "clusterset.local");
    assert!(zone("a b").is_err());
}
