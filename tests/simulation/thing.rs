//! The kinds of objects that a simulated API keeps, as one type, and the news of them.

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::{
    access::AccessPolicy,
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Member, Peer},
    mcs::{ServiceExport, ServiceImport},
    traffic::TrafficPolicy,
    watch::{Change, ObjectKey},
};
use landbridge_controller::{
    observed::Event,
    plan::{Kind, Object},
};

macro_rules! things {
    ($($sort:ident: $type:ty),+ $(,)?) => {
        /// A kind that is kept and watched.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub(crate) enum Sort { $($sort),+ }

        impl Sort {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$sort),+];

            /// News that an object is gone.
            pub(crate) fn gone(self, key: ObjectKey) -> Event {
                match self { $(Self::$sort => Event::$sort(Change::Delete(key))),+ }
            }

            /// News that the API cannot be read.
            pub(crate) fn interrupted(self) -> Event {
                let reason = "the simulated network".to_owned();
                match self { $(Self::$sort => Event::$sort(Change::Interrupted(reason))),+ }
            }

            /// News that these are all there are.
            pub(crate) fn all(self, things: Vec<Thing>) -> Vec<Event> {
                match self {
                    $(Self::$sort => {
                        let objects = things.into_iter().filter_map(|thing| match thing {
                            Thing::$sort(object) => Some(*object),
                            _ => None,
                        });
                        Change::listing(objects, []).map(Event::$sort).collect()
                    }),+
                }
            }
        }

        /// An object.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Thing { $($sort(Box<$type>)),+ }

        impl Thing {
            pub(crate) fn sort(&self) -> Sort {
                match self { $(Self::$sort(_) => Sort::$sort),+ }
            }

            pub(crate) fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$sort(object) => &object.metadata),+ }
            }

            pub(crate) fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$sort(object) => &mut object.metadata),+ }
            }

            /// News that it is new or has changed.
            pub(crate) fn applied(self) -> Event {
                match self { $(Self::$sort(object) => Event::$sort(Change::Apply(*object))),+ }
            }
        }
    };
}

things! {
    AccessPolicy: AccessPolicy,
    ClusterExport: ClusterExport,
    ClusterProfile: ClusterProfile,
    EndpointSlice: EndpointSlice,
    HubSlice: EndpointSlice,
    Lease: Lease,
    Member: Member,
    MemberLease: Lease,
    Namespace: Namespace,
    Peer: Peer,
    Service: Service,
    ServiceExport: ServiceExport,
    ServiceImport: ServiceImport,
    TrafficPolicy: TrafficPolicy,
}

impl Sort {
    /// Whether a controller watches it on the hub, rather than in its own cluster.
    pub(crate) fn is_on_hub(self) -> bool {
        matches!(self, Self::ClusterExport | Self::HubSlice | Self::Member)
    }

    pub(crate) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Member | Self::Namespace | Self::Peer)
    }

    /// What a plan calls it.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::ClusterExport => Self::ClusterExport,
            Kind::ClusterProfile => Self::ClusterProfile,
            Kind::EndpointSlice => Self::EndpointSlice,
            Kind::HubSlice => Self::HubSlice,
            Kind::Lease => Self::MemberLease,
            Kind::Member => Self::Member,
            Kind::Namespace => Self::Namespace,
            Kind::Peer => Self::Peer,
            Kind::Service => Self::Service,
            Kind::ServiceExport => Self::ServiceExport,
            Kind::ServiceImport => Self::ServiceImport,
            Kind::TrafficPolicy => Self::TrafficPolicy,
        }
    }
}

impl Thing {
    /// What a plan wants written.
    pub(crate) fn of(object: Object) -> Self {
        match object {
            Object::ClusterExport(object) => Self::ClusterExport(object),
            Object::ClusterProfile(object) => Self::ClusterProfile(object),
            Object::EndpointSlice(object) => Self::EndpointSlice(object),
            Object::HubSlice(object) => Self::HubSlice(object),
            Object::Lease(object) => Self::MemberLease(object),
            Object::Namespace(object) => Self::Namespace(object),
            Object::Peer(object) => Self::Peer(object),
            Object::Service(object) => Self::Service(object),
            Object::ServiceImport(object) => Self::ServiceImport(object),
        }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey::of(self.meta())
    }

    pub(crate) fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(name).map(String::as_str)
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(name).map(String::as_str)
    }

    pub(crate) fn import(&self) -> Option<&ServiceImport> {
        match self {
            Self::ServiceImport(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn slice(&self) -> Option<&EndpointSlice> {
        match self {
            Self::EndpointSlice(object) | Self::HubSlice(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn service(&self) -> Option<&Service> {
        match self {
            Self::Service(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn service_export(&self) -> Option<&ServiceExport> {
        match self {
            Self::ServiceExport(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn member(&self) -> Option<&Member> {
        match self {
            Self::Member(object) => Some(object),
            _ => None,
        }
    }
}
