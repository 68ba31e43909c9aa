//! Pure: which Services this cluster has, and which of them it exports.

use k8s_openapi::api::core::v1::Service;
use landbridge_api::{
    mcs::ServiceExport,
    watch::{Change, ObjectKey},
};

use super::{Observed, Touched, index, named, problems, unindex, view};
use crate::plan::Kind;

impl Observed {
    pub(super) fn take_service(&mut self, change: Change<Service>) -> Touched {
        let taken = self.services.take(change, view::service);
        let (mut touched, steps) = problems::<_, Service>(taken);
        for (key, before) in steps {
            let after = self.services.find(&key);
            let made_for = [before.as_ref(), after].into_iter().flatten();
            let made_for = made_for.filter_map(|view| view.ours.as_ref());
            for (import, _) in made_for {
                touched.services.insert(import.clone());
                unindex(&mut self.our_services, import, &key);
            }
            if let Some((import, _)) = after.and_then(|view| view.ours.as_ref()) {
                index(&mut self.our_services, import, &key);
            }
            touched.services.extend(named(&key));
            let is_ours = after.is_some_and(|view| view.ours.is_some());
            self.count_derived(&key, is_ours, &mut touched);
        }
        touched
    }

    pub(super) fn take_service_export(&mut self, change: Change<ServiceExport>) -> Touched {
        let taken = self.service_exports.take(change, |object| Ok(view::service_export(&object)));
        let keys: Vec<ObjectKey> =
            taken.malformed.iter().map(|malformed| malformed.key.clone()).collect();
        let (mut touched, steps) = problems::<_, ServiceExport>(taken);
        let steps = steps.into_iter().map(|(key, _)| key);
        for key in keys.into_iter().chain(steps) {
            touched.services.extend(named(&key));
            if !self.service_exports.malformed().contains_key(&key) {
                self.told_malformed.remove(&key);
            }
            if self.service_exports.find(&key).is_none() {
                self.unsay(Kind::ServiceExport, &key);
            }
        }
        touched
    }
}
