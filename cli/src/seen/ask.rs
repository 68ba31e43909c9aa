//! Asks a cluster's API, and what runs in it, for everything that the commands look at. Nothing is written. What one question
//! does not bring is known to be unknown: it stops no other.

use std::{fmt::Debug, time::Duration};

use anyhow::Result;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, Resource, api::ListParams};
use landbridge_api::{
    about::ClusterProperty,
    served,
    wellknown::{
        GATEWAY_SERVICE, GATEWAYS, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, ROOT_SECRET,
        SYSTEM_NAMESPACE, TRUST_NAMESPACE,
    },
};
use serde::de::DeserializeOwned;

use super::{
    Asked, Certificate, Facts, Hub, Unread,
    certificates::{self, Data},
    components, known,
};
use crate::{
    init::{choice::Choice, facts, wait::OURS, wanted},
    kubernetes::answered,
    manifests::{HUB, MEMBER},
};

/// How long one answer may take: people wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects in one answer, as kubectl has it.
const PAGE: u32 = 500;
/// Objects of one kind: what is more than that is not for people to look through, and a program has watches.
const MOST: usize = 50_000;

/// How much is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Depth {
    /// Landbridge's own objects.
    Glance,
    /// What else is in the cluster that matters to it, too.
    Thorough,
}

/// Asks a cluster, its pods by a client that takes their answers as they are, and the hub where one is named.
///
/// # Errors
/// An API that cannot be reached, or does not know who asks.
pub(crate) async fn all(
    client: &Client,
    pods: &Client,
    hub: Option<&Client>,
    depth: Depth,
) -> Result<Facts> {
    // Whether anybody answers is known soon, and told as what it is.
    let server = answered(facts::server(client)).await?;
    let now = landbridge_model::Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let mut all = Facts::new(now, server);
    let (mut own, mut near, mut far) = (all.clone(), all.clone(), all.clone());
    let (mcs, _) = served::adapt(client.clone());
    tokio::join!(
        Box::pin(ours(client, &mut own)),
        Box::pin(services(client, &mcs, &mut near)),
        Box::pin(async {
            if depth == Depth::Thorough {
                Box::pin(surroundings(client, &mut far)).await;
            }
        }),
    );
    all.hub = Box::pin(hub_of(hub.unwrap_or(client))).await;
    let components = Box::pin(components::all(pods, known(&own.pods), depth)).await;
    let mut certificates = std::mem::take(&mut own.certificates);
    certificates.extend(certificates::of_gateways(&components, now));
    Ok(Facts {
        certificates,
        components,
        hub: all.hub,
        is_hub_elsewhere: hub.is_some(),
        exports: near.exports,
        imports: near.imports,
        access: near.access,
        traffic: near.traffic,
        allotments: near.allotments,
        gateways: near.gateways,
        definitions: far.definitions,
        services: far.services,
        namespaces: far.namespaces,
        policies: far.policies,
        nodes: far.nodes,
        denied: far.denied,
        ..own
    })
}

/// What runs, who the cluster is, and what it knows of others.
async fn ours(client: &Client, into: &mut Facts) {
    let system = SYSTEM_NAMESPACE;
    let labelled = || ListParams::default().labels(OURS);
    let all: Api<ClusterProperty> = Api::all(client.clone());
    let properties = async {
        let listed = list(all, ListParams::default()).await?.into_iter();
        Ok(listed.filter_map(|one| Some((one.metadata.name?, one.spec.value))).collect())
    };
    let chosen = async {
        let map: Option<ConfigMap> = get(client, system, wanted::CHOICE).await?;
        Ok(map.map(|map| map.data.unwrap_or_default()))
    };
    let corefile = async {
        let map: Option<ConfigMap> = get(client, "kube-system", "coredns").await?;
        Ok(map.and_then(|map| map.data?.remove("Corefile")))
    };
    (
        into.properties,
        into.choice,
        into.corefile,
        into.deployments,
        into.pods,
        into.profiles,
        into.peers,
        into.certificates,
    ) = tokio::join!(
        properties,
        chosen,
        corefile,
        list(Api::namespaced(client.clone(), system), labelled()),
        list(Api::namespaced(client.clone(), system), labelled()),
        list(Api::namespaced(client.clone(), system), ListParams::default()),
        list(Api::all(client.clone()), ListParams::default()),
        endings(client),
    );
}

/// What is exported and imported, and where gateways come into it. `mcs` asks for the version that is served.
async fn services(client: &Client, mcs: &Client, into: &mut Facts) {
    let slices = |label: &str, value: &str| {
        let label = format!("{label}={value}");
        list(Api::all(client.clone()), ListParams::default().labels(&label))
    };
    let (allotments, gateways);
    (into.exports, into.imports, into.access, into.traffic, allotments, gateways) = tokio::join!(
        list(Api::all(mcs.clone()), ListParams::default()),
        list(Api::all(mcs.clone()), ListParams::default()),
        list(Api::all(client.clone()), ListParams::default()),
        list(Api::all(client.clone()), ListParams::default()),
        slices(MANAGED_BY, LANDBRIDGE),
        slices(KUBE_SERVICE_NAME, GATEWAY_SERVICE),
    );
    into.gateways = gateways;
    let is_allotment = |slice: &EndpointSlice| {
        let annotations = slice.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(GATEWAYS)).is_some_and(|value| value == "true")
    };
    into.allotments =
        allotments.map(|all: Vec<EndpointSlice>| all.into_iter().filter(is_allotment).collect());
}

/// What is not ours and matters to it.
async fn surroundings(client: &Client, into: &mut Facts) {
    let everything = ListParams::default;
    (into.definitions, into.services, into.namespaces, into.policies, into.nodes, into.denied) = tokio::join!(
        list(Api::all(client.clone()), everything()),
        list(Api::all(client.clone()), everything()),
        list(Api::all(client.clone()), everything()),
        list(Api::all(client.clone()), everything()),
        list(Api::all(client.clone()), everything()),
        denied(client),
    );
}

async fn hub_of(client: &Client) -> Hub {
    let (members, exports) = tokio::join!(
        list(Api::all(client.clone()), ListParams::default()),
        list(Api::all(client.clone()), ListParams::default()),
    );
    Hub { members, exports }
}

/// What whoever asks may not do of what `init` does.
async fn denied(client: &Client) -> Asked<Vec<String>> {
    // Which kinds there are does not depend on what is chosen.
    let any = |text: &str| text.parse().ok();
    let choice = Choice {
        cluster: any("any"),
        cluster_set: "any".parse().ok(),
        image: Some("any".into()),
        ..Choice::default()
    };
    let trouble = |error: anyhow::Error| Unread::Trouble(format!("{error:#}"));
    let settings = choice.settings(1, true).map_err(|error| trouble(error.into()))?;
    let wanted = wanted::all(&settings, &choice, landbridge_api::crds::all());
    let wanted = wanted.map_err(|error| trouble(error.into()))?;
    match tokio::time::timeout(PATIENCE, facts::denied(client, &wanted)).await {
        Err(_) => Err(late()),
        Ok(Ok(denied)) => Ok(denied),
        Ok(Err(error)) => match error.downcast_ref::<kube::Error>() {
            Some(error) => {
                Err(unread(error, "create selfsubjectaccessreviews.authorization.k8s.io"))
            }
            None => Err(trouble(error)),
        },
    }
}

/// When certificates and credentials end, of those that are here.
async fn endings(client: &Client) -> Vec<Certificate> {
    let (member, hub, root) = tokio::join!(
        data(client, SYSTEM_NAMESPACE, MEMBER.secret),
        data(client, SYSTEM_NAMESPACE, HUB.secret),
        data(client, TRUST_NAMESPACE, ROOT_SECRET),
    );
    let mut all = match member {
        Ok(Some(data)) => certificates::of_member(&data),
        // Gateways that are plain processes have it as files; what a pod would want is told by `components`.
        Ok(None) => Vec::new(),
        Err(why) => {
            vec![Certificate { what: "authority of the gateways".to_owned(), until: Err(why) }]
        }
    };
    all.extend(match hub {
        Ok(Some(data)) => vec![certificates::of_hub(&data)],
        // The hub's own controller has none, and other clusters no root: whoever may not look is not told of it either.
        _ => Vec::new(),
    });
    if let Ok(Some(data)) = root {
        all.extend(certificates::of_root(&data));
    }
    all
}

async fn data(client: &Client, namespace: &str, name: &str) -> Asked<Option<Data>> {
    let secret: Option<Secret> = get(client, namespace, name).await?;
    Ok(secret.map(|secret| secret.data.unwrap_or_default()))
}

/// One object, where it is there.
pub(super) async fn get<K>(client: &Client, namespace: &str, name: &str) -> Asked<Option<K>>
where
    K: Clone
        + Debug
        + DeserializeOwned
        + Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = tokio::time::timeout(PATIENCE, api.get_opt(name)).await.map_err(|_| late())?;
    found.map_err(|error| unread(&error, &format!("get {}", kind::<K>())))
}

/// All objects, page by page.
pub(crate) async fn list<K>(api: Api<K>, params: ListParams) -> Asked<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned + Resource<DynamicType = ()>,
{
    let mut all = Vec::new();
    let mut params = params.limit(PAGE);
    loop {
        let page = tokio::time::timeout(PATIENCE, api.list(&params)).await.map_err(|_| late())?;
        let page = page.map_err(|error| unread(&error, &format!("list {}", kind::<K>())))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(_) if all.len() >= MOST => {
                return Err(Unread::Trouble(format!("there are more than {MOST} {}", kind::<K>())));
            }
            Some(next) => params = params.continue_token(&next),
            None => return Ok(all),
        }
    }
}

/// As `kubectl auth can-i` has it.
fn kind<K: Resource<DynamicType = ()>>() -> String {
    let (plural, group) = (K::plural(&()), K::group(&()));
    let dot = if group.is_empty() { "" } else { "." };
    format!("{plural}{dot}{group}")
}

pub(super) fn unread(error: &kube::Error, what: &str) -> Unread {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            Unread::Denied(what.to_owned())
        }
        kube::Error::Api(status) if status.code == 404 => Unread::NoKind,
        error => Unread::Trouble(format!("{what}: {}", crate::exit::line(error))),
    }
}

pub(super) fn late() -> Unread {
    Unread::Trouble("there was no answer in time".to_owned())
}

impl Facts {
    /// With nothing known yet.
    pub(super) fn new(now: landbridge_model::Timestamp, server: (u32, u32, String)) -> Self {
        fn not<T>() -> Asked<T> {
            Err(Unread::NotAsked)
        }
        Self {
            now,
            server,
            properties: not(),
            choice: not(),
            definitions: not(),
            deployments: not(),
            pods: not(),
            components: Vec::new(),
            profiles: not(),
            peers: not(),
            exports: not(),
            imports: not(),
            access: not(),
            traffic: not(),
            allotments: not(),
            gateways: not(),
            services: not(),
            namespaces: not(),
            policies: not(),
            nodes: not(),
            corefile: not(),
            certificates: Vec::new(),
            denied: not(),
            hub: Hub { members: not(), exports: not() },
            is_hub_elsewhere: false,
        }
    }
}
