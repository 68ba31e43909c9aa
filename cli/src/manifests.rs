//! Pure: everything that a cluster is given to become a member, as Kubernetes objects.
//!
//! | module | which |
//! | --- | --- |
//! | [`settings`] | what they depend on |
//! | [`roles`] | who may do what: the files of `deploy/rbac`, so that there is one truth of it |
//! | [`workloads`] | what runs, how many of it, and what may be taken away at a time |
//! | [`network`] | how it is reached, and by whom |
//! | [`hub`] | what the hub has beside that |
//! | [`enroll`] | by what a cluster joins |

pub(crate) mod enroll;
pub(crate) mod hub;
mod network;
mod roles;
pub(crate) mod settings;
mod workloads;

use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use landbridge_api::{
    about::{ClusterProperty, ClusterPropertySpec},
    crds,
    wellknown::{CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY, SYSTEM_NAMESPACE},
};
use serde::Serialize;
use serde_json::Value;

use self::settings::{Expose, Settings};
pub(crate) use self::{
    network::LINK_SERVICE,
    workloads::{HUB, MEMBER},
};

/// What runs in a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// On the hub alone.
    Authority,
    Controller,
    Dns,
    Gateway,
}

impl Part {
    /// What runs in a cluster: the hub's has one more.
    fn of(settings: &Settings) -> Vec<Self> {
        let members = [Self::Controller, Self::Dns, Self::Gateway];
        let own = settings.own_hub.then_some(Self::Authority);
        members.into_iter().chain(own).collect()
    }

    /// Its command, and the value of the label that its pods are told by.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Controller => "controller",
            Self::Dns => "dns",
            Self::Gateway => "gateway",
        }
    }

    /// Its Deployment, its ServiceAccount, and what else belongs to it.
    fn name(self) -> String {
        format!("landbridge-{}", self.word())
    }

    /// Where metrics, health and state are asked for.
    const fn admin_port(self) -> u16 {
        match self {
            Self::Controller => 9401,
            Self::Dns => 9402,
            Self::Gateway => 9403,
            Self::Authority => 9404,
        }
    }

    fn labels(self) -> std::collections::BTreeMap<String, String> {
        let label = |name: &str, value: &str| (format!("app.kubernetes.io/{name}"), value.into());
        [label("name", "landbridge"), label("component", self.word())].into()
    }

    fn selector(self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.labels()), ..LabelSelector::default() }
    }

    fn metadata(self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            labels: Some(self.labels()),
            name: Some(name.into()),
            namespace: Some(SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        }
    }
}

/// All objects, in an order in which they can be applied.
///
/// # Errors
/// Never for what is built here: only if an object could not be written as JSON.
pub(crate) fn all(settings: &Settings) -> serde_json::Result<Vec<Value>> {
    let mut all = vec![serde_json::to_value(namespace(settings))?];
    if settings.crds {
        all.extend(values(crds::all())?);
    }
    all.extend(roles::all());
    let parts = Part::of(settings);
    all.extend(values(parts.iter().map(|part| network::policy(*part, settings)))?);
    all.extend(values(network::services(settings))?);
    all.extend(values(parts.iter().map(|part| workloads::budget(*part)))?);
    all.extend(values(parts.iter().map(|part| workloads::deployment(*part, settings)))?);
    all.extend(values(properties(settings))?);
    Ok(all)
}

fn values<T: Serialize>(objects: impl IntoIterator<Item = T>) -> serde_json::Result<Vec<Value>> {
    objects.into_iter().map(serde_json::to_value).collect()
}

/// Ours alone. It takes pods of the strictest kind, unless gateways are to have ports of their nodes.
fn namespace(settings: &Settings) -> Namespace {
    let level = match settings.expose {
        Expose::HostPort => "privileged",
        Expose::Address(_) | Expose::LoadBalancer | Expose::NodePort => "restricted",
    };
    let labels = ["enforce", "warn"]
        .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), level.to_owned()));
    Namespace {
        metadata: ObjectMeta {
            labels: Some(labels.into()),
            name: Some(SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Who the cluster is (KEP-2149), for whoever asks. Last, since their kind is among the objects before.
fn properties(settings: &Settings) -> [ClusterProperty; 2] {
    let property = |name: &str, value: &str| {
        ClusterProperty::new(name, ClusterPropertySpec { value: value.to_owned() })
    };
    [
        property(CLUSTER_ID_PROPERTY, settings.cluster.as_str()),
        property(CLUSTER_SET_PROPERTY, settings.set.as_str()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{settings::testing::settings, *};
    use crate::config::{self, Flags, testing::Given};

    fn of(kind: &str, settings: &Settings) -> Vec<Value> {
        all(settings).unwrap().into_iter().filter(|object| object["kind"] == kind).collect()
    }

    #[test]
    fn every_object_is_there_once_and_in_our_namespace() {
        let objects = all(&settings("loadbalancer")).unwrap();
        let mut seen = BTreeSet::new();
        for object in &objects {
            let key = ["apiVersion", "kind"].map(|field| object[field].to_string());
            let metadata = &object["metadata"];
            let key = format!("{key:?} {} {}", metadata["namespace"], metadata["name"]);
            assert!(metadata["namespace"].is_null() || metadata["namespace"] == SYSTEM_NAMESPACE);
            assert!(!metadata["name"].is_null() && seen.insert(key.clone()), "{key}");
        }
        // Each comes after its namespace, its account, and its kind.
        let at = |kind: &str| objects.iter().position(|object| object["kind"] == kind).unwrap();
        assert_eq!(at("Namespace"), 0);
        assert!(at("ServiceAccount") < at("Deployment"));
        assert!(at("CustomResourceDefinition") < at("ClusterProperty"));
    }

    /// What an administrator reviewed in `deploy/rbac` is what is applied.
    #[test]
    fn roles_are_the_files_that_people_read() {
        let objects = all(&settings("nodeport")).unwrap();
        for role in roles::all() {
            assert!(objects.contains(&role), "{role}");
        }
        let accounts: Vec<Value> = of("ServiceAccount", &settings("nodeport"));
        for deployment in of("Deployment", &settings("nodeport")) {
            let pod = &deployment["spec"]["template"]["spec"];
            let account = &pod["serviceAccountName"];
            assert!(accounts.iter().any(|one| one["metadata"]["name"] == *account), "{account}");
        }
    }

    /// A pod whose settings are wrong would only be seen to fail on the cluster.
    #[test]
    fn every_component_takes_what_its_pods_are_started_with() {
        fn taken<S: config::Settings>(pod: &Value) -> Result<S, String> {
            let container = &pod["containers"][0];
            let arguments = container["args"].as_array().unwrap().iter();
            let arguments = arguments.map(|argument| {
                argument.as_str().unwrap().replace("$(POD_NAME)", "landbridge-gateway-7c9d-x2v5k")
            });
            let given = Given {
                files: [("/etc/landbridge/hub/kubeconfig".to_owned(), String::new())].into(),
                ..Given::default()
            };
            let flags =
                Flags::<S>::parse(arguments.collect()).map_err(|error| error.to_string())?;
            config::load(&flags, &given).map_err(|problems| problems.to_string())
        }
        let deployments = of("Deployment", &settings("192.0.2.7"));
        let [controller, dns, gateway] = &deployments[..] else { panic!("three Deployments") };
        let pod = |deployment: &Value| deployment["spec"]["template"]["spec"].clone();
        let controller: config::controller::Settings = taken(&pod(controller)).unwrap();
        assert_eq!(controller.advertise[0].to_string(), "192.0.2.7:4433");
        assert_eq!(controller.membership.cluster.unwrap().as_str(), "paris");
        assert!(controller.hub.is_some());
        let dns: config::dns::Settings = taken(&pod(dns)).unwrap();
        assert_eq!(dns.server.listen[0].to_string(), "0.0.0.0:1053");
        // Its certificates are real files: that they are missing is all that is wrong.
        let told = taken::<config::gateway::Settings>(&pod(gateway)).unwrap_err();
        let missing = ["--member-cert", "--member-key", "--tls-ca"];
        assert!(told.starts_with("3 settings are wrong"), "{told}");
        assert!(missing.iter().all(|flag| told.contains(flag)), "{told}");
    }

    #[test]
    fn a_member_reaches_the_hub_through_its_gateways_where_it_is_told_which_that_is() {
        let flags = |settings: &Settings| -> Vec<String> {
            let gateway = of("Deployment", settings).remove(2);
            let flags = gateway["spec"]["template"]["spec"]["containers"][0]["args"].clone();
            serde_json::from_value(flags).unwrap()
        };
        let service = |settings: &Settings| {
            let services = of("Service", settings);
            services.into_iter().find(|one| one["metadata"]["name"] == "landbridge-hub")
        };
        let allowed = |settings: &Settings| {
            let policy = of("NetworkPolicy", settings).remove(2);
            let rules = policy["spec"]["ingress"].as_array().unwrap().clone();
            rules.into_iter().find(|rule| rule["ports"][0]["port"] == 6443)
        };
        let told = |flags: &[String], flag: &str| flags.iter().any(|one| one.starts_with(flag));
        let plain = settings("nodeport");
        assert!(service(&plain).is_none() && allowed(&plain).is_none());
        for flag in ["--hub", "--authority"] {
            assert!(!told(&flags(&plain), flag));
        }
        let hub = Settings { own_hub: true, ..plain.clone() };
        assert!(service(&hub).is_none() && allowed(&hub).is_none());
        assert!(told(&flags(&hub), "--hub-api=kubernetes.default.svc:443"));
        assert!(told(&flags(&hub), "--authority=landbridge-authority.landbridge-system.svc:8443"));
        let paris = landbridge_model::ClusterId::parse("paris").ok();
        let member = Settings { hub: paris, ..plain };
        let all = flags(&member);
        for flag in ["--hub=paris", "--hub-listen=any:6443", "--authority-listen=any:6444"] {
            assert!(told(&all, flag), "{all:?}");
        }
        let gateway = of("Deployment", &member).remove(2);
        let ports = gateway["spec"]["template"]["spec"]["containers"][0]["ports"].clone();
        for port in service(&member).unwrap()["spec"]["ports"].as_array().unwrap() {
            let is_it = |one: &Value| {
                one["name"] == port["targetPort"] && one["containerPort"] == port["port"]
            };
            assert!(ports.as_array().unwrap().iter().any(is_it), "{port}");
        }
        // Nobody but the controller, and not its namespace's others.
        let from = &allowed(&member).unwrap()["from"];
        assert_eq!(from.as_array().unwrap().len(), 1);
        let labels = &from[0]["podSelector"]["matchLabels"];
        assert_eq!(labels["app.kubernetes.io/component"], "controller");
        assert!(from[0]["namespaceSelector"].is_null());
    }

    #[test]
    fn nothing_that_runs_has_more_rights_than_it_needs() {
        for deployment in of("Deployment", &settings("loadbalancer")) {
            assert_eq!(deployment["spec"]["replicas"], 2);
            let pod = &deployment["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert!(pod["hostNetwork"].is_null());
            let container = &pod["containers"][0];
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
            for probe in ["livenessProbe", "readinessProbe"] {
                assert_eq!(container[probe]["httpGet"]["port"], "admin");
            }
        }
    }

    #[test]
    fn peers_reach_one_port_by_the_way_that_was_chosen() {
        let named = |expose: &str, name: &str| {
            let services = of("Service", &settings(expose));
            let service = services.into_iter().find(|one| one["metadata"]["name"] == name);
            service.map(|service| service["spec"].clone())
        };
        let link = |expose: &str| named(expose, "landbridge-link");
        let balancer = link("loadbalancer").unwrap();
        assert_eq!(
            (&balancer["type"], &balancer["ports"][0]["port"]),
            (&"LoadBalancer".into(), &4433.into())
        );
        // Many load balancers take no two protocols.
        let over_tcp = named("loadbalancer", "landbridge-link-tcp").unwrap();
        let protocols = |service: &Value| {
            let ports = service["ports"].as_array().unwrap().iter();
            ports.map(|port| port["protocol"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (protocols(&balancer), protocols(&over_tcp)),
            (vec!["UDP".into()], vec!["TCP".into()])
        );
        assert_eq!(over_tcp["ports"][0]["port"], 4433);
        for expose in ["nodeport", "192.0.2.7"] {
            let node = link(expose).unwrap();
            assert_eq!(node["type"], "NodePort");
            assert_eq!(protocols(&node), ["UDP", "TCP"]);
            assert!(node["ports"].as_array().unwrap().iter().all(|port| port["nodePort"] == 30433));
        }
        assert!(link("hostport").is_none());
        let gateway = &of("Deployment", &settings("hostport"))[2]["spec"];
        for port in [1, 2] {
            let port = &gateway["template"]["spec"]["containers"][0]["ports"][port];
            assert_eq!(port["hostPort"], 4433);
        }
        // Two pods cannot have one port of one node: the old one goes first.
        assert_eq!(gateway["strategy"]["rollingUpdate"]["maxSurge"], 0);
        // What is asked for state and metrics is open to no peer.
        for expose in ["loadbalancer", "nodeport", "192.0.2.7"] {
            let link = link(expose).unwrap();
            let ports = link["ports"].as_array().unwrap();
            let only = |port: &Value| port["name"].as_str().unwrap().starts_with("link");
            assert!(ports.iter().all(only), "{ports:?}");
        }
    }
}
