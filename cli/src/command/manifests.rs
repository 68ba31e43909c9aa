//! `landbridge manifests`: what `kubectl apply -f -` needs to make a cluster a member.

use std::{
    fmt::Write as _,
    io::{self, Write},
    net::IpAddr,
};

use anyhow::Result;
use landbridge_model::{ClusterId, ClusterSetId, NetworkName};
use serde_json::{Value, json};

use super::output::{Format, print, render};
use crate::{
    exit::Usage,
    manifests::{
        self,
        settings::{Expose, Peers, Settings},
    },
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Id of the cluster in its set.
    #[arg(long, value_name = "ID")]
    cluster: ClusterId,
    /// Name of the clusterset.
    #[arg(long, value_name = "NAME")]
    cluster_set: ClusterSetId,
    /// The image of `landbridge`, as the cluster's nodes find it.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// A free ClusterIP for the DNS server, from the range of the cluster's Services, where `kubectl get service kubernetes`
    /// has its own; one of each family may be given.
    #[arg(long, value_name = "IP", required = true)]
    dns_address: Vec<IpAddr>,
    /// How peers reach the gateways: loadbalancer, nodeport, hostport, or the ADDRESS of something that passes UDP, and TCP
    /// where it can, on to --link-port of the nodes.
    #[arg(long, value_name = "WAY", default_value = "loadbalancer")]
    expose: Expose,
    /// The port that is asked of the load balancer or the nodes [default: 30433 of nodeport and ADDRESS, else 4433].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    link_port: Option<u16>,
    /// Where peers dial: the load balancer's or nodes' IP, with a port unless it is --link-port. Without it, and without
    /// ADDRESS, this cluster only dials.
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Vec<Peers>,
    /// Clusters with the same network name reach each other's pods directly [default: the id, a network of its own].
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkName>,
    /// The member that is the hub, where this cluster's controller reaches the hub's API through the gateways' link to it. Its
    /// kubeconfig then names landbridge-hub.landbridge-system.svc:6443.
    #[arg(long, value_name = "ID")]
    hub: Option<ClusterId>,
    /// The region of the cluster, for locality.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// How often the cluster has joined: the generation of its Member on the hub.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    generation: u64,
    /// Leave the CustomResourceDefinitions out, where `landbridge crds` has been applied.
    #[arg(long)]
    no_crds: bool,
    /// YAML documents, or one List in JSON.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
}

/// Prints the objects, and what else is to be done beside them.
///
/// # Errors
/// Settings that do not go together, and where standard output takes nothing.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let settings = settings(arguments)?;
    let all = manifests::all(&settings)?;
    let text = match arguments.output {
        Format::Json => {
            render(Format::Json, &json!({"apiVersion": "v1", "kind": "List", "items": all}))?
        }
        Format::Yaml => yaml(&settings, &all)?,
    };
    print(out, &text)?;
    if settings.advertise.is_empty() {
        // Nobody may be listening.
        let _ = writeln!(
            io::stderr(),
            "no address is advertised, so that {} only dials: once it is known where peers reach it, say it with --advertise and apply this again",
            settings.cluster
        );
    }
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings> {
    let Arguments { cluster, cluster_set, expose, .. } = arguments;
    let network = match &arguments.network {
        Some(network) => network.clone(),
        None => NetworkName::parse(cluster.as_str())?,
    };
    let dns = &arguments.dns_address;
    let families = dns.iter().filter(|address| address.is_ipv4()).count();
    if dns.len() > 2 || (dns.len() == 2 && families != 1) {
        let remedy = "a Service has one ClusterIP of each family: leave out the others";
        return Err(Usage(format!("--dns-address is given {} times: {remedy}", dns.len())).into());
    }
    if arguments.image.is_empty() || arguments.image.contains(char::is_whitespace) {
        return Err(Usage(format!(
            "--image {:?} is no image: give a reference such as registry.example/landbridge:{}",
            arguments.image,
            env!("CARGO_PKG_VERSION")
        ))
        .into());
    }
    let link_port = arguments.link_port.unwrap_or_else(|| expose.usual_port());
    Ok(Settings {
        advertise: expose.advertise(&arguments.advertise, link_port),
        cluster: cluster.clone(),
        crds: !arguments.no_crds,
        dns: dns.clone(),
        expose: *expose,
        generation: arguments.generation,
        hub: arguments.hub.clone(),
        image: arguments.image.clone(),
        link_port,
        network,
        own_hub: false,
        region: arguments.region.clone(),
        set: cluster_set.clone(),
    })
}

/// The documents, below what a reader is to know of them.
fn yaml(settings: &Settings, all: &[Value]) -> Result<String> {
    let Settings { cluster, set, .. } = settings;
    let mut text = String::new();
    for line in [
        format!("Landbridge {} for cluster {cluster} of set {set}.", env!("CARGO_PKG_VERSION")),
        String::new(),
        "Two Secrets of landbridge-system are yours to make; pods wait for them:".into(),
        format!("  landbridge-member  --from-file=DIR, the folder of `landbridge pki member --cluster {cluster}`"),
        "  landbridge-hub     --from-file=kubeconfig=FILE, how the member's account reaches the hub".into(),
        String::new(),
        "kubectl refuses objects of kinds that it has not met when it starts: the first time, apply".into(),
        "`landbridge crds` before this, or apply this twice.".into(),
    ] {
        writeln!(text, "{}", format!("# {line}").trim_end())?;
    }
    for object in all {
        text.push_str("---\n");
        text.push_str(&render(Format::Yaml, object)?);
    }
    Ok(text)
}
