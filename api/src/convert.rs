//! Objects to model and back: where text from outside becomes names and numbers that the rest may trust.
//!
//! Every reading here returns a [`ConvertError`] that names the object, the field and what is wrong, for the caller
//! to make a condition or a log line of; nothing here panics and one bad object says nothing about the next.

mod export;
mod hub_slice;
mod import;
mod member;
mod slice;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff,
};
use landbridge_model::{NameError, ServiceKey, Timestamp};
use thiserror::Error;

pub use export::{cluster_export, export, import_port, service_port};
pub use hub_slice::{HubEndpoint, HubSlice, hub_slice};
pub use import::{ImportView, import};
pub use member::{gateway_endpoints, member_peer, peer};
pub use slice::{Allotment, Endpoint, McsSlice, SlicePort, allotment, mcs_slice};

/// An object that cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{object}: {field}: {problem}")]
pub struct ConvertError {
    /// Kind, namespace and name of the object.
    pub object: String,
    /// The field that is at fault.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// Collects what errors need to know about the object that is being read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    kind: &'static str,
    metadata: &'a ObjectMeta,
}

impl Reading<'_> {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is wrong is told once; callers make it on the spot"
    )]
    fn error(&self, field: impl Into<String>, problem: impl ToString) -> ConvertError {
        let namespace =
            self.metadata.namespace.as_deref().map(|ns| format!("{ns}/")).unwrap_or_default();
        let name = self.metadata.name.as_deref().unwrap_or("<unnamed>");
        ConvertError {
            object: format!("{} {namespace}{name}", self.kind),
            field: field.into(),
            problem: problem.to_string(),
        }
    }

    /// Passes a name on, or says in which field it was wrong.
    fn name<T>(&self, field: &str, parsed: Result<T, NameError>) -> Result<T, ConvertError> {
        parsed.map_err(|problem| self.error(field, problem))
    }

    fn required<'b, T>(&self, field: &str, value: Option<&'b T>) -> Result<&'b T, ConvertError> {
        value.ok_or_else(|| self.error(field, "is missing"))
    }

    /// The key that an object's own namespace and name make.
    fn key(&self) -> Result<ServiceKey, ConvertError> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        self.name("metadata", ServiceKey::parse(namespace, name))
    }
}

/// The key of the service that an object with this metadata (a Service, ServiceExport or ServiceImport) is named
/// after.
///
/// # Errors
/// [`ConvertError`] where namespace or name are no labels.
pub fn service_key(kind: &'static str, metadata: &ObjectMeta) -> Result<ServiceKey, ConvertError> {
    Reading { kind, metadata }.key()
}

/// A point in time as objects carry it.
#[must_use]
pub fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

/// A point in time for an object. Beyond the years that objects can hold, the nearest one.
#[must_use]
pub fn time(timestamp: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(timestamp.as_millis()).unwrap_or(
        if timestamp.as_millis() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX },
    )
}

/// When an object was made; the beginning of time where it does not say.
#[must_use]
pub fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::from_millis(0), timestamp)
}
