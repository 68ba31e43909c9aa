//! Pure: what belongs into this cluster of a service that the set exports, and in which order.
//!
//! ```text
//! derived Service ─► slices ─► gateways listen ─► ServiceImport ─► its status ─► the Service's owner
//! ```
//!
//! The name appears with the import, so that comes when a call would get through; when the service goes, it goes
//! first. No garbage collector is counted on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use landbridge_api::{
    condition::{self, Wanted},
    convert,
    mcs::{
        ClientIpConfig, ClusterStatus, EndpointSliceObjects, ServiceImport, ServiceImportSpec,
        ServiceImportStatus, SessionAffinityConfig,
    },
    wellknown::{APP_MANAGED_BY, DERIVED_SERVICE, LANDBRIDGE},
};
use landbridge_model::{
    AllottedPort, ClusterId, Export, IpFamily, Merged, ServiceKey, ServiceKind, SessionAffinity,
    Timestamp, derived,
};
use serde_json::json;

use super::{
    Kind, Object, Plan, Write,
    address::{self, Address, Asked},
    exports,
    gateways::{Gateways, family_of, gateways},
    headless::{Headless, MOST_PLACES, headless},
    home::home,
    labels, merged,
    remote::remote,
    room, slices,
    slices::{Route, Slices, Source, route},
    versioned,
};
use crate::{
    observed::{Observed, Row, is_ours, object_key},
    ports::{Choice, Number, Slot},
};

pub(super) fn plan(observed: &Observed, service: &ServiceKey, now: Timestamp) -> Plan {
    let is_withheld = observed.withheld(&service.namespace).is_some();
    let merged = merged(observed, service).filter(|_| !is_withheld);
    let mut plan = match &merged {
        Some(merged) => keep(observed, merged, now),
        None => remove(observed, service),
    };
    plan.policies(observed, service, merged.as_ref(), now);
    plan
}

fn import_row<'a>(observed: &'a Observed, service: &ServiceKey) -> Option<&'a Row<ServiceImport>> {
    observed.service_imports.row(&object_key(service, service.name.as_str()))
}

fn remove(observed: &Observed, service: &ServiceKey) -> Plan {
    let mut plan = Plan::default();
    let import = import_row(observed, service).filter(|row| is_ours(&row.kept.metadata));
    plan.step(import.map(|row| Write::Delete {
        kind: Kind::ServiceImport,
        key: object_key(service, service.name.as_str()),
        uid: Some(row.uid.clone()),
    }));
    plan.step(slices::delete(observed, service, &BTreeSet::new()));
    plan.step(address::remove(observed, service, &BTreeSet::new()));
    plan.numbers = Some((service.clone(), BTreeMap::new()));
    plan
}

fn keep(observed: &Observed, merged: &Merged, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let service = &merged.service;
    let row = import_row(observed, service);
    if row.is_some_and(|row| !is_ours(&row.kept.metadata)) {
        plan.problem(
            format!("ServiceImport {service}"),
            "is not ours, so the service is not imported: delete it, or let its maker import the service",
        );
        return plan;
    }
    let gateways = gateways(observed);
    let exports: BTreeMap<&ClusterId, &Export> =
        exports(observed, service).map(|export| (&export.cluster, export)).collect();
    let import = row.map(|row| &row.kept);
    let headless = headless(observed, merged, &exports, import);
    let (said, choice) = choose(observed, merged, &headless, now);
    let home = home(observed, merged);
    let remote = remote(observed, merged, &exports, &gateways);
    let source = Source {
        observed,
        merged,
        exports: &exports,
        numbers: &choice.numbers,
        said: &said,
        gateways: &gateways,
        headless: &headless,
        home: &home,
        remote: &remote,
    };
    let slices = source.slices();
    let (slice_writes, slice_problems) = slices::writes(observed, merged, &slices.wanted);
    plan.problems = slice_problems;
    plan.problems.extend(remote.problems);
    let mut address = (merged.kind == ServiceKind::ClusterSetIp)
        .then(|| address::address(observed, &Asked::of(merged), import));
    let room = address.as_mut();
    let no_room = room.and_then(|address| room::check(observed, service, address));
    // MCS slices are the names of headless endpoints, so they wait until gateways listen; a ClusterSetIP has its name
    // from the import.
    let is_late = |write: &Write| address.is_none() && !slices::is_allotment(write);
    let (late, early): (Vec<Write>, Vec<Write>) = slice_writes.into_iter().partition(is_late);

    plan.step(address.as_ref().and_then(|address| address.write.clone()));
    plan.step(early);
    plan.step(probe(observed, service, &choice, &said, &gateways, row));
    plan.step(late);
    let trouble = no_room.as_ref().map(|no_room| no_room.ready.clone());
    let trouble = trouble.or_else(|| unsupported(address.as_ref(), &slices));
    let ready =
        trouble.unwrap_or_else(|| ready(merged, &choice, &gateways, address.as_ref(), &headless));
    let is_pending = headless.is_pending() && row.is_none();
    if let Some(ips) = ips(merged, address.as_ref(), &slices).filter(|_| !is_pending) {
        let families = families(merged, &ips, &slices);
        let conditions = [Some(ready), encrypted(observed, merged, row)];
        let conditions: Vec<Wanted> = conditions.into_iter().flatten().collect();
        let write = write(merged, row, &ips, &families);
        let write = plan.ask(observed, write);
        let generation = generation(row, write.as_ref());
        plan.step(write);
        let status = status(merged, row, generation, &slices, &conditions, now);
        let status = plan.ask(observed, status);
        plan.step(status);
    }
    addresses(&mut plan, observed, merged, &headless);
    plan.step(no_room.and_then(|no_room| no_room.last));
    tell(&mut plan, service, &choice, address.as_ref(), &headless);
    plan.numbers = Some((service.clone(), choice.numbers));
    plan
}

/// The Services of single endpoints come last: one that is refused holds up nothing else. The next plan has their
/// addresses.
fn addresses(plan: &mut Plan, observed: &Observed, merged: &Merged, headless: &Headless<'_>) {
    let places = headless.places.iter();
    plan.step(places.filter_map(|place| place.address.write.clone()));
    let mut kept: BTreeSet<String> = headless
        .places
        .iter()
        .map(|place| address::name(&merged.service, Some(&place.endpoint)).to_string())
        .collect();
    if merged.kind == ServiceKind::ClusterSetIp {
        kept.insert(derived::service(&merged.service).to_string());
    }
    plan.step(address::remove(observed, &merged.service, &kept));
}

/// Direct traffic is told: nothing of ours encrypts it.
fn encrypted(
    observed: &Observed,
    merged: &Merged,
    row: Option<&Row<ServiceImport>>,
) -> Option<Wanted> {
    let direct = |cluster: &&ClusterId| route(observed, &merged.service, cluster) == Route::Direct;
    let direct = merged.clusters.iter().filter(direct);
    let direct: Vec<String> = direct.map(|cluster| format!("{cluster:?}")).collect();
    if direct.is_empty() {
        let current = row.and_then(|row| row.kept.status.as_ref())?;
        let was = current.conditions.iter().any(|had| had.type_ == "Encrypted");
        return was.then(|| Wanted::new("Encrypted", true, "Gateways", ""));
    }
    let message = format!(
        "Pods of {} share this cluster's network and are called directly, with no gateway in between.",
        direct.join(", ")
    );
    Some(Wanted::new("Encrypted", false, "DirectRoute", message))
}

fn tell(
    plan: &mut Plan,
    service: &ServiceKey,
    choice: &Choice,
    address: Option<&Address<'_>>,
    headless: &Headless<'_>,
) {
    for (protocol, number) in &choice.lost {
        plan.problem(
            format!("ServiceImport {service}"),
            format!(
                "gateway port {number}/{protocol} is an older import's: another one was allotted"
            ),
        );
    }
    let places = headless.places.iter();
    let places = places.map(|place| (Some(&place.endpoint), &place.address));
    let foreign = address.map(|address| (None, address)).into_iter();
    for (endpoint, _) in foreign.chain(places).filter(|(_, a)| a.foreign.is_some()) {
        let name = address::name(service, endpoint);
        plan.problem(
            format!("Service {}/{name}", service.namespace),
            format!(
                "is not ours and has the name that import {service} needs: rename or delete it"
            ),
        );
    }
}

/// The numbers that gateways listen on for the ports of an import.
fn choose(
    observed: &Observed,
    merged: &Merged,
    headless: &Headless<'_>,
    now: Timestamp,
) -> (BTreeMap<Slot, AllottedPort>, Choice) {
    let service = &merged.service;
    let mut said: BTreeMap<Slot, AllottedPort> = BTreeMap::new();
    for (_, row) in observed.our_slices(service) {
        for ((_, number), target) in row.kept.allotment.iter().flat_map(|slice| &slice.targets) {
            let slot = Slot { endpoint: target.endpoint.clone(), port: target.port };
            let known = said.entry(slot).or_insert(*number);
            *known = (*known).min(*number);
        }
    }
    let age = |service: &ServiceKey| {
        let row = import_row(observed, service);
        // One that is not there yet is younger than any that is.
        let created = row
            .map_or(Timestamp::from_millis(i64::MAX), |row| convert::created(&row.kept.metadata));
        (created, service.clone())
    };
    let own_age = age(service);
    let mut wanted = slices::carried(observed, merged);
    wanted.extend(headless.slots());
    let is_older = |other: &ServiceKey| age(other) < own_age;
    let ports = &observed.ports;
    let choice = ports.choose(service, &wanted, &said, is_older, now);
    (said, choice)
}

/// Gateways are asked about the numbers of ports that the import does not have yet, and about those at which they are about
/// to stand in for pods.
fn probe(
    observed: &Observed,
    service: &ServiceKey,
    choice: &Choice,
    said: &BTreeMap<Slot, AllottedPort>,
    gateways: &Gateways,
    row: Option<&Row<ServiceImport>>,
) -> Option<Write> {
    let is_named = |slot: &Slot| {
        if slot.endpoint.is_some() {
            return row.is_some() && said.contains_key(slot);
        }
        let ports = row.iter().flat_map(|row| &row.kept.spec.ports);
        (said.contains_key(slot) || !observed.weighs(service))
            && ports
                .filter_map(|port| convert::service_port(port).ok())
                .any(|named| named.key == slot.port)
    };
    let numbers: BTreeSet<Number> = choice
        .numbers
        .iter()
        .filter(|(slot, _)| !is_named(slot))
        .map(|(slot, number)| (slot.port.protocol, *number))
        .filter(|number| !observed.ports.is_probed(*number))
        .collect();
    let admin = gateways.admin();
    (!numbers.is_empty() && !admin.is_empty()).then(|| Write::Probe {
        service: service.clone(),
        numbers,
        gateways: admin,
    })
}

/// KEP-1645: "IP protocol incompatibilities (i.e.: importing an IPv6 only service in an IPv4 cluster) […] should be
/// reported". Gateways carry the one to the other; pods that are called directly are of the families that they are of.
fn unsupported(address: Option<&Address<'_>>, slices: &Slices) -> Option<Wanted> {
    let ips = address?.ips.as_ref().filter(|ips| !ips.is_empty())?;
    let is_served = ips.iter().any(|ip| slices.serving.contains(&family_of(*ip)));
    let serving: Vec<&str> = slices.serving.iter().map(|family| family.as_str()).collect();
    (!is_served && !serving.is_empty()).then(|| {
        let message = format!(
            "The service is served over {} alone, and Services of this cluster have no such addresses.",
            serving.join(" and ")
        );
        Wanted::new("Ready", false, "IPFamilyNotSupported", message)
    })
}

/// The addresses that the import has: none of them where headless; nothing while they are not known yet.
fn ips(merged: &Merged, address: Option<&Address<'_>>, slices: &Slices) -> Option<Vec<IpAddr>> {
    let Some(address) = address.filter(|_| merged.kind == ServiceKind::ClusterSetIp) else {
        return Some(Vec::new());
    };
    if address.foreign.is_some() {
        return Some(Vec::new());
    }
    let all = address.ips.clone()?;
    let serving = all.iter().copied().filter(|ip| slices.serving.contains(&family_of(*ip)));
    let serving: Vec<IpAddr> = serving.collect();
    Some(if serving.is_empty() { all } else { serving })
}

/// "the families that have a serving address here (headless too, with `ips` absent)".
fn families(merged: &Merged, ips: &[IpAddr], slices: &Slices) -> Vec<IpFamily> {
    if merged.kind == ServiceKind::ClusterSetIp {
        return ips.iter().copied().map(family_of).collect();
    }
    let exported = merged.families.iter().copied();
    let serving: Vec<IpFamily> =
        exported.filter(|family| slices.serving.contains(family)).collect();
    if serving.is_empty() {
        return merged.families.clone();
    }
    serving
}

fn write(
    merged: &Merged,
    row: Option<&Row<ServiceImport>>,
    ips: &[IpAddr],
    families: &[IpFamily],
) -> Option<Write> {
    let current = row.map(|row| &row.kept);
    let mut wanted = shape(current.cloned().unwrap_or_default(), merged, ips, families);
    match row {
        None => Some(Write::Create(Object::ServiceImport(Box::new(wanted)))),
        Some(row) if row.kept == wanted => None,
        Some(row) => {
            versioned(&mut wanted.metadata, &row.version);
            Some(Write::Update(Object::ServiceImport(Box::new(wanted))))
        }
    }
}

fn shape(
    mut import: ServiceImport,
    merged: &Merged,
    ips: &[IpAddr],
    families: &[IpFamily],
) -> ServiceImport {
    // The source has left out what no API takes, if it checks as this version does.
    let labels::Carried { mut labels, mut annotations, .. } =
        labels::carried(&merged.labels, &merged.annotations);
    labels.insert(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned());
    if merged.kind == ServiceKind::ClusterSetIp {
        let derived = derived::service(&merged.service).to_string();
        annotations.insert(DERIVED_SERVICE.to_owned(), derived);
    }
    import.metadata.name = Some(merged.service.name.to_string());
    import.metadata.namespace = Some(merged.service.namespace.to_string());
    import.metadata.labels = Some(labels);
    import.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    let timeout = match merged.affinity {
        SessionAffinity::ClientIp { timeout } => i32::try_from(timeout.as_secs()).ok(),
        SessionAffinity::None => None,
    };
    import.spec = ServiceImportSpec {
        ports: merged.ports.iter().map(|port| convert::import_port(&port.port)).collect(),
        ips: ips.iter().map(ToString::to_string).collect(),
        ip_families: families.iter().map(ToString::to_string).collect(),
        type_: merged.kind.as_str().to_owned(),
        session_affinity: Some(merged.affinity.as_str().to_owned()),
        session_affinity_config: timeout.map(|seconds| SessionAffinityConfig {
            client_ip: Some(ClientIpConfig { timeout_seconds: Some(seconds) }),
        }),
        internal_traffic_policy: merged.internal_traffic_policy.clone(),
        traffic_distribution: merged.traffic_distribution.clone(),
    };
    import
}

/// The generation that the import has once it is written: API servers count what is wished for from 1, so that its
/// status need not wait for their answer.
fn generation(row: Option<&Row<ServiceImport>>, write: Option<&Write>) -> Option<i64> {
    let Some(Row { kept, .. }) = row else {
        return Some(1);
    };
    let is_rewritten = match write {
        Some(Write::Update(Object::ServiceImport(wanted))) => wanted.spec != kept.spec,
        _ => false,
    };
    kept.metadata.generation.map(|generation| generation + i64::from(is_rewritten))
}

fn status(
    merged: &Merged,
    row: Option<&Row<ServiceImport>>,
    generation: Option<i64>,
    slices: &Slices,
    conditions: &[Wanted],
    now: Timestamp,
) -> Option<Write> {
    let current = row.and_then(|row| row.kept.status.clone()).unwrap_or_default();
    let clusters = merged.clusters.iter();
    let wanted = ServiceImportStatus {
        clusters: clusters.map(|cluster| ClusterStatus { cluster: cluster.to_string() }).collect(),
        conditions: condition::apply(&current.conditions, conditions, generation, now),
        endpoint_slice_objects: Some(if slices.has_mcs {
            EndpointSliceObjects::Present
        } else {
            EndpointSliceObjects::Absent
        }),
    };
    (wanted != current).then(|| Write::Status {
        kind: Kind::ServiceImport,
        key: object_key(&merged.service, merged.service.name.as_str()),
        status: json!(wanted),
    })
}

/// Whether calls get through, as far as can be seen from here.
fn ready(
    merged: &Merged,
    choice: &Choice,
    gateways: &Gateways,
    address: Option<&Address<'_>>,
    headless: &Headless<'_>,
) -> Wanted {
    let not = |reason: &str, message: String| Wanted::new("Ready", false, reason, message);
    if address.is_some_and(|address| address.foreign.is_some()) {
        let derived = derived::service(&merged.service);
        let message = format!(
            "A Service {derived} that is not Landbridge's is in the way: rename or delete it."
        );
        return not("Pending", message);
    }
    if let Some(port) = choice.exhausted.first() {
        let message =
            format!("No gateway port is left for {port}: fewer services can be imported.");
        return not("PortsExhausted", message);
    }
    if headless.too_many > 0 {
        let message = format!(
            "{} endpoints of other networks have no address here: an import has at most {MOST_PLACES}.",
            headless.too_many
        );
        return not("AddressesExhausted", message);
    }
    if let Some(said) = headless.exhausted {
        let message =
            format!("The API server has no address left for endpoints of other networks: {said}");
        return not("AddressesExhausted", message);
    }
    if headless.no_room > 0 {
        let message = format!(
            "{} endpoints of other networks have no address here: this cluster has as many Services for imports as its controller may make (--max-derived-services).",
            headless.no_room
        );
        return not("Pending", message);
    }
    let mut places = headless.places.iter();
    if let Some(place) = places.find(|place| place.address.foreign.is_some()) {
        let name = address::name(&merged.service, Some(&place.endpoint));
        let message = format!(
            "A Service {name} that is not Landbridge's is in the way: rename or delete it."
        );
        return not("Pending", message);
    }
    if !choice.numbers.is_empty() && gateways.is_empty() {
        let message = "No gateway of this cluster is known, so other networks cannot be reached.";
        return not("Pending", message.to_owned());
    }
    Wanted::new("Ready", true, "Ready", "")
}
