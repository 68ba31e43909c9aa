//! Pure: what runs: its Deployments, and how much of each may be taken away at a time.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle,
            LifecycleHandler, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec,
            Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
            SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};
use landbridge_api::wellknown::{GATEWAY_PORT_LINK, GATEWAY_PORT_LINK_TCP};

use super::{
    Part,
    network::{self, AUTHORITY_PORT, DNS_PORT, HUB_PORT, JOIN_PORT, PORT_AUTHORITY, PORT_HUB},
    settings::{Expose, LINK_PORT, Settings},
};

/// Of each component, so that one can go.
const REPLICAS: i32 = 2;
/// The user of the image, who owns nothing.
const USER: i64 = 65532;
/// Where every cluster has its own API, by a name that its certificate has.
const API: &str = "kubernetes.default.svc:443";
/// The set's authority, which runs in the hub's cluster.
const AUTHORITY: &str = "landbridge-authority.landbridge-system.svc:8443";
/// Where Secrets are mounted, each in a folder of its own.
const SECRETS: &str = "/etc/landbridge";
/// How long a pod that ends goes on as before: in that time every node hears that it is not to be called any more.
const FAREWELL: i64 = 5;
/// The farewell, then what a component takes to drain.
const GRACE: i64 = 30;

/// A Secret that somebody else makes, and the file that a component wants of it.
pub(crate) struct Wanted {
    pub(crate) secret: &'static str,
    pub(crate) part: Part,
    folder: &'static str,
}

/// How the controller reaches the hub.
pub(crate) const HUB: Wanted =
    Wanted { secret: "landbridge-hub", part: Part::Controller, folder: "hub" };
/// The cluster's authority, from which gateways issue their certificates.
pub(crate) const MEMBER: Wanted =
    Wanted { secret: "landbridge-member", part: Part::Gateway, folder: "member" };

impl Wanted {
    /// Where the component finds a field of it.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("{SECRETS}/{}/{name}", self.folder)
    }
}

/// One of each component may be taken away at a time; one that does not work, always.
pub(super) fn budget(part: Part) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: part.metadata(part.name()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(part.selector()),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

pub(super) fn deployment(part: Part, settings: &Settings) -> Deployment {
    // A port of a node is free again only when its pod has gone; elsewhere the new pod comes first.
    let own_port = part == Part::Gateway && settings.expose == Expose::HostPort;
    let (surge, unavailable) = if own_port { (0, 1) } else { (1, 0) };
    Deployment {
        metadata: part.metadata(part.name()),
        spec: Some(DeploymentSpec {
            // A gateway that has just come is known to kube-proxies and peers before the next one goes.
            min_ready_seconds: (part == Part::Gateway).then_some(5),
            replicas: Some(REPLICAS),
            revision_history_limit: Some(3),
            selector: part.selector(),
            strategy: Some(DeploymentStrategy {
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
                type_: Some("RollingUpdate".into()),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(part.labels()), ..ObjectMeta::default() }),
                spec: Some(pod(part, settings)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(part: Part, settings: &Settings) -> PodSpec {
    let is_read = |one: &Wanted| one.part == part && !(settings.own_hub && one.part == HUB.part);
    let wanted: Vec<Wanted> = [HUB, MEMBER].into_iter().filter(is_read).collect();
    let volumes = wanted.iter().map(|wanted| Volume {
        name: wanted.folder.into(),
        secret: Some(SecretVolumeSource {
            // Readable for the group that the pod's files have.
            default_mode: Some(0o440),
            secret_name: Some(wanted.secret.into()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let volumes: Vec<Volume> = volumes.collect();
    PodSpec {
        containers: vec![container(part, settings, &wanted)],
        // Variables of Services would be taken for settings.
        enable_service_links: Some(false),
        node_selector: Some([("kubernetes.io/os".to_owned(), "linux".to_owned())].into()),
        security_context: Some(nobody()),
        service_account_name: Some(part.name()),
        termination_grace_period_seconds: Some(GRACE),
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                .map(|key| TopologySpreadConstraint {
                    label_selector: Some(part.selector()),
                    max_skew: 1,
                    topology_key: key.into(),
                    when_unsatisfiable: "ScheduleAnyway".into(),
                    ..TopologySpreadConstraint::default()
                })
                .into(),
        ),
        volumes: (!volumes.is_empty()).then_some(volumes),
        ..PodSpec::default()
    }
}

/// A pod of the user who owns nothing.
pub(super) fn nobody() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(USER),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// A container that may do nothing but run.
pub(super) fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn container(part: Part, settings: &Settings, wanted: &[Wanted]) -> Container {
    let mounts = wanted.iter().map(|wanted| VolumeMount {
        mount_path: format!("{SECRETS}/{}", wanted.folder),
        name: wanted.folder.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let mounts: Vec<VolumeMount> = mounts.collect();
    Container {
        args: Some(arguments(part, settings)),
        env: Some(vec![EnvVar {
            name: "POD_NAME".into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.name".into(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        image: Some(settings.image.clone()),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: FAREWELL }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        name: part.word().into(),
        ports: Some(ports(part, settings)),
        // One answer that is late is no reason to take a replica away.
        readiness_probe: Some(probe("/readyz", 2, 2)),
        resources: Some(resources(part)),
        security_context: Some(confined()),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        ..Container::default()
    }
}

fn arguments(part: Part, settings: &Settings) -> Vec<String> {
    let mut flags: Vec<(&str, String)> =
        vec![("admin-listen", format!("any:{}", part.admin_port())), ("log-format", "json".into())];
    if part != Part::Dns {
        flags.push(("cluster", settings.cluster.to_string()));
        flags.push(("cluster-set", settings.set.to_string()));
    }
    if matches!(part, Part::Controller | Part::Gateway) {
        flags.push(("name", "$(POD_NAME)".into()));
    }
    match part {
        Part::Authority => flags.push(("listen", format!("any:{JOIN_PORT}"))),
        Part::Controller => {
            flags.push(("network", settings.network.to_string()));
            flags.extend(settings.region.iter().map(|region| ("region", region.clone())));
            if !settings.own_hub {
                flags.push(("hub-kubeconfig", HUB.file("kubeconfig")));
            }
            flags.extend(settings.advertise.iter().map(|at| ("advertise", at.to_string())));
            if let Some(authority) = network::authority(settings) {
                flags.push(("authority", authority));
                flags.push(("generation", settings.generation.to_string()));
            }
        }
        Part::Dns => flags.push(("listen", format!("any:{DNS_PORT}"))),
        Part::Gateway => {
            flags.push(("listen", "any".into()));
            flags.extend(settings.region.iter().map(|region| ("region", region.clone())));
            flags.push(("generation", settings.generation.to_string()));
            flags.push(("member-cert", MEMBER.file("member.pem")));
            flags.push(("member-key", MEMBER.file("member-key.pem")));
            flags.push(("tls-ca", MEMBER.file("root.pem")));
            flags.extend(to_the_hub(settings));
        }
    }
    let flags = flags.into_iter().map(|(flag, value)| format!("--{flag}={value}"));
    [part.word().to_owned()].into_iter().chain(flags).collect()
}

/// At the hub, what its gateways bring members to; in a member, the way there.
fn to_the_hub(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut flags = Vec::new();
    if settings.own_hub {
        flags.push(("hub-api", API.into()));
        flags.push(("authority", AUTHORITY.into()));
    }
    if let Some(hub) = &settings.hub {
        flags.push(("hub", hub.to_string()));
        flags.push(("hub-listen", format!("any:{HUB_PORT}")));
        flags.push(("authority-listen", format!("any:{AUTHORITY_PORT}")));
    }
    flags
}

fn ports(part: Part, settings: &Settings) -> Vec<ContainerPort> {
    let port = |name: &str, protocol: &str, number: u16| ContainerPort {
        container_port: number.into(),
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port("admin", "TCP", part.admin_port())];
    match part {
        Part::Authority => ports.push(port("join", "TCP", JOIN_PORT)),
        Part::Controller => {}
        Part::Dns => ports.extend([port("dns", "UDP", DNS_PORT), port("dns-tcp", "TCP", DNS_PORT)]),
        Part::Gateway => {
            let link = [(GATEWAY_PORT_LINK, "UDP"), (GATEWAY_PORT_LINK_TCP, "TCP")];
            ports.extend(link.map(|(name, protocol)| ContainerPort {
                host_port: (settings.expose == Expose::HostPort).then(|| settings.link_port.into()),
                ..port(name, protocol, LINK_PORT)
            }));
            let to_the_hub = [(PORT_HUB, HUB_PORT), (PORT_AUTHORITY, AUTHORITY_PORT)];
            let to_the_hub = to_the_hub.into_iter().filter(|_| settings.hub.is_some());
            ports.extend(to_the_hub.map(|(name, number)| port(name, "TCP", number)));
        }
    }
    ports
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        failure_threshold: Some(failures),
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

/// What a small cluster needs is asked for; what a large one may need is the limit of memory. Processors have no limit:
/// it would delay calls while others are idle.
fn resources(part: Part) -> ResourceRequirements {
    let (cpu, memory, limit) = match part {
        Part::Authority => ("10m", "32Mi", "256Mi"),
        Part::Controller => ("50m", "64Mi", "1Gi"),
        Part::Dns => ("50m", "64Mi", "512Mi"),
        // One without time is silent, and counts as dead to its peers after a third of a second.
        Part::Gateway => ("500m", "128Mi", "1Gi"),
    };
    let quantity = |name: &str, value: &str| (name.to_owned(), Quantity(value.into()));
    ResourceRequirements {
        limits: Some(BTreeMap::from([quantity("memory", limit)])),
        requests: Some(BTreeMap::from([quantity("cpu", cpu), quantity("memory", memory)])),
        ..ResourceRequirements::default()
    }
}
