//! Pure: the slices that members keep on the hub, and what their news touches.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::discovery::v1::EndpointSlice, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::{
    convert::{self, HubSlice},
    watch::{Change, ObjectKey},
    wellknown::{EXPORT, MANAGED_BY, hub_namespace},
};
use landbridge_model::ServiceKey;

use super::{Observed, PackedSlice, Row, ServiceView, Touched, index, problems, unindex};

/// A slice on the hub.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HubSliceView {
    /// Whether it is this cluster's own.
    pub(crate) is_own: bool,
    /// The whole of it; of others' only what can be read.
    pub(crate) slice: PackedSlice,
    service: ServiceKey,
}

impl HubSliceView {
    /// What it says.
    pub(crate) fn read(&self) -> Option<HubSlice> {
        convert::hub_slice(&self.slice.whole()).ok()?
    }
}

impl Observed {
    pub(super) fn take_hub_slice(&mut self, change: Change<EndpointSlice>) -> Touched {
        let own = hub_namespace(&self.config.cluster);
        let taken = self.hub_slices.take(change, |object| view(object, &own));
        let turned = taken.turned;
        let (mut touched, steps) = problems::<_, EndpointSlice>(taken);
        touched.everything |= turned;
        for (key, before) in steps {
            let after = self.hub_slices.find(&key);
            if let Some(before) = &before {
                unindex(&mut self.slices_on_hub, &before.service, &key);
                touched.services.insert(before.service.clone());
            }
            if let Some(after) = after {
                index(&mut self.slices_on_hub, &after.service, &key);
                touched.services.insert(after.service.clone());
            }
        }
        touched
    }

    /// The slices on the hub that hold pods of a service, of whichever cluster.
    pub(crate) fn hub_slices(
        &self,
        service: &ServiceKey,
    ) -> impl Iterator<Item = (&ObjectKey, &Row<HubSliceView>)> {
        let keys = self.slices_on_hub.get(service).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.hub_slices.row(key)?)))
    }

    /// The Services that were made for an import.
    pub(crate) fn our_services(
        &self,
        import: &ServiceKey,
    ) -> impl Iterator<Item = (&ObjectKey, &Row<ServiceView>)> {
        let keys = self.our_services.get(import).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.services.row(key)?)))
    }

    /// The services of which any of `members` has slices on the hub.
    pub(super) fn services_told_by<'a>(
        &self,
        members: impl Iterator<Item = &'a String>,
    ) -> BTreeSet<ServiceKey> {
        let namespaces: BTreeSet<String> = members.map(|id| format!("cluster-{id}")).collect();
        let slices = self.slices_on_hub.iter();
        let told = slices.filter(|(_, keys)| {
            let mut keys = keys.iter();
            keys.any(|key| namespaces.contains(&key.namespace))
        });
        told.map(|(service, _)| service.clone()).collect()
    }

    /// The services of which this cluster has slices on the hub.
    pub(super) fn services_on_hub(&self) -> impl Iterator<Item = &ServiceKey> {
        self.slices_on_hub.keys()
    }
}

fn view(mut object: EndpointSlice, own: &str) -> Result<HubSliceView, String> {
    let read = convert::hub_slice(&object).map_err(|problem| problem.to_string())?;
    let read = read.ok_or("it says that it is a member's, and is in no member's namespace")?;
    let is_own = object.metadata.namespace.as_deref() == Some(own);
    if !is_own {
        let ObjectMeta { annotations, labels, namespace, .. } = object.metadata;
        let only = |all: Option<BTreeMap<String, String>>, name: &str| {
            let one = all.and_then(|mut all| all.remove_entry(name));
            one.map(|one| BTreeMap::from([one]))
        };
        object.metadata = ObjectMeta {
            annotations: only(annotations, EXPORT),
            labels: only(labels, MANAGED_BY),
            namespace,
            ..ObjectMeta::default()
        };
    }
    Ok(HubSliceView { is_own, slice: PackedSlice::new(object), service: read.service })
}
