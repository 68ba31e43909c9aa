//! Pure: which namespaces there are, and of which services are imported.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use landbridge_api::watch::{Change, ObjectKey};
use landbridge_model::Namespace as NamespaceName;

use super::{NamespaceView, Observed, Touched, Withheld, problems, view};

impl Observed {
    pub(super) fn take_namespace(&mut self, change: Change<Namespace>) -> Touched {
        let config = &self.config;
        let taken = self.namespaces.take(change, |object| Ok(view::namespace(&object, config)));
        let (mut touched, steps) = problems::<_, Namespace>(taken);
        let turned: BTreeSet<&str> = steps.iter().map(|(key, _)| key.name.as_str()).collect();
        if turned.is_empty() {
            return touched;
        }
        let mut services = self.known_services();
        services.retain(|service| turned.contains(service.namespace.as_str()));
        touched.services = services;
        touched.members = turned.contains(self.config.system_namespace.as_str());
        touched
    }

    /// Whether objects can be made in a namespace: it is there, and not on its way out.
    pub(crate) fn is_open(&self, namespace: &str) -> bool {
        let key = ObjectKey { namespace: String::new(), name: namespace.to_owned() };
        self.namespaces.find(&key).is_some_and(|namespace| namespace.is_open)
    }

    /// Why services of a namespace are not imported; none where they are.
    pub(crate) fn withheld(&self, namespace: &NamespaceName) -> Option<Withheld> {
        let key = ObjectKey { namespace: String::new(), name: namespace.to_string() };
        match self.namespaces.find(&key) {
            Some(NamespaceView { is_selected: false, .. }) => Some(Withheld::NotSelected),
            Some(NamespaceView { is_open: true, .. }) => None,
            _ => Some(Withheld::NoNamespace),
        }
    }
}
