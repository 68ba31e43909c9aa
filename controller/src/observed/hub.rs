//! Pure: the slices that members keep on the hub, and what their news touches.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::{
    convert::{self, HubSlice},
    watch::{Change, ObjectKey},
    wellknown::hub_namespace,
};
use landbridge_model::ServiceKey;

use super::{Observed, Row, ServiceView, Touched, index, problems, unindex};

/// A slice on the hub.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HubSliceView {
    pub(crate) read: HubSlice,
    /// The whole of it, where it is this cluster's own.
    pub(crate) own: Option<Box<EndpointSlice>>,
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
                unindex(&mut self.slices_on_hub, &before.read.service, &key);
                touched.services.insert(before.read.service.clone());
            }
            if let Some(after) = after {
                index(&mut self.slices_on_hub, &after.read.service, &key);
                touched.services.insert(after.read.service.clone());
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

fn view(object: EndpointSlice, own: &str) -> Result<HubSliceView, String> {
    let read = convert::hub_slice(&object).map_err(|problem| problem.to_string())?;
    let is_own = object.metadata.namespace.as_deref() == Some(own);
    Ok(HubSliceView {
        read: read.ok_or("it says that it is a member's, and is in no member's namespace")?,
        own: is_own.then(|| Box::new(object)),
    })
}
