//! Pure: which exports have AccessPolicies, and what news of one touches.
//!
//! What a policy allows is for gateways to know. Here it matters that there is one: gateways hold it, so no way may lead
//! around them. One that cannot be read guards its whole namespace, since nobody knows what it would allow.

use landbridge_api::{access::AccessPolicy, watch::Change};
use landbridge_model::ServiceKey;

use super::{Observed, Touched, problems};

/// An AccessPolicy: the Service that it is for; all of its namespace, where it names none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AccessView(Option<String>);

impl Observed {
    pub(super) fn take_access_policy(&mut self, change: Change<AccessPolicy>) -> Touched {
        let taken = self.access_policies.take(change, |object| Ok(AccessView(object.spec.service)));
        let malformed = taken.malformed.iter().map(|malformed| malformed.key.namespace.clone());
        let mut namespaces: Vec<String> = malformed.collect();
        let (mut touched, steps) = problems::<_, AccessPolicy>(taken);
        for (key, before) in steps {
            let after = self.access_policies.find(&key);
            for AccessView(service) in [before.as_ref(), after].into_iter().flatten() {
                match service {
                    Some(name) => touched.services.extend(ServiceKey::parse(&key.namespace, name)),
                    None => namespaces.push(key.namespace.clone()),
                }
            }
            // One that can be read at last.
            if before.is_none() {
                namespaces.push(key.namespace.clone());
            }
        }
        if !namespaces.is_empty() {
            let mut services = self.known_services();
            services.retain(|one| namespaces.iter().any(|name| name == one.namespace.as_str()));
            touched.services.extend(services);
        }
        touched
    }

    /// The names of the policies that are in force for a service.
    pub(crate) fn guards<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a str> {
        let namespace = service.namespace.as_str();
        let policies = self.access_policies.rows_in(namespace).filter(|(_, row)| {
            let AccessView(named) = &row.kept;
            named.as_ref().is_none_or(|name| name == service.name.as_str())
        });
        let malformed = self.access_policies.malformed().keys();
        let malformed = malformed.filter(move |key| key.namespace == namespace);
        policies.map(|(key, _)| key).chain(malformed).map(|key| key.name.as_str())
    }
}
