//! Pure: which EndpointSlices this cluster has, and whose each of them is.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::watch::{Change, ObjectKey};

use super::{Observed, SliceRole, SliceView, Touched, index, problems, unindex, view};

impl Observed {
    pub(super) fn take_slice(&mut self, change: Change<EndpointSlice>) -> Touched {
        let system = &self.config.system_namespace;
        let taken = self.slices.take(change, |object| view::slice(object, system));
        let (mut touched, steps) = problems::<_, EndpointSlice>(taken);
        for (key, before) in steps {
            if let Some(before) = &before {
                self.enter_slice(&key, before, false);
                touched.slice(&before.role);
            }
            let Some(after) = self.slices.find(&key).cloned() else {
                continue;
            };
            self.enter_slice(&key, &after, true);
            touched.slice(&after.role);
        }
        touched
    }

    /// Enters a slice into the tables that it is found by, or takes it out.
    fn enter_slice(&mut self, key: &ObjectKey, view: &SliceView, stands: bool) {
        let enter = if stands { index } else { unindex };
        match &view.role {
            SliceRole::Gateways if stands => {
                self.gateway_slices.insert(key.clone());
            }
            SliceRole::Gateways => {
                self.gateway_slices.remove(key);
            }
            SliceRole::Other => {}
            SliceRole::Ours(service) => enter(&mut self.our_slices, service, key),
            SliceRole::Pods(service) => enter(&mut self.pod_slices, service, key),
        }
        for (number, target) in view.allotment.iter().flat_map(|allotment| &allotment.targets) {
            self.ports.claim(*number, &target.service, key, stands);
        }
    }
}
