//! Pure: what every write has to pass before it is kept: type, metadata, names, the kind's own
//! shape; and how an object looks in the version that a client speaks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::error::{ApiError, Cause};
use crate::object::{as_map, list, map, members, name, text};
use crate::resource::{Resource, Served, Shape};
use crate::services::{default_ports, service_causes, slice_causes};

/// kube-apiserver's own limit for all annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Refuses what is not an object of the kind and version that the request names; fills the two in
/// where they are missing, and drops the metadata that only a server with field management has.
pub(crate) fn check_type(at: &Served, object: &mut Value) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::new(400, "the request's body is not a JSON object"));
    }
    for (field, wanted) in [("apiVersion", at.api_version()), ("kind", at.resource.kind.clone())] {
        let found = text(object, &format!("/{field}"));
        if !found.is_empty() && found != wanted {
            let message = format!("the object's {field} is {found}, the request's is {wanted}");
            return Err(ApiError::new(400, message));
        }
        as_map(object).insert(field.to_owned(), wanted.into());
    }
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    serde_json::from_value::<ObjectMeta>(metadata)
        .map_err(|error| ApiError::new(400, format!("metadata cannot be handled: {error}")))?;
    map(object, "metadata").remove("managedFields");
    Ok(())
}

/// Cleans and checks an object that is about to be kept.
pub(crate) fn check_object(at: &Served, object: &mut Value) -> Result<(), ApiError> {
    let kind = &at.resource.kind;
    let mut causes = metadata_causes(&at.resource, object);
    match &at.version().shape {
        Shape::Core(decode) => {
            let refuse = |error| ApiError::new(400, format!("{kind} cannot be handled: {error}"));
            *object = decode(object.take()).map_err(refuse)?;
            match kind.as_str() {
                "EndpointSlice" => {
                    default_ports(as_map(object), "protocol", |_| json!("TCP"));
                    causes.extend(slice_causes(object));
                }
                "Service" => causes.extend(service_causes(object)),
                _ => {}
            }
        }
        Shape::Custom(schema) => {
            schema.normalise(object);
            causes.extend(schema.validate(object));
        }
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(&at.resource, name(object), &causes))
    }
}

/// What a new object's status is before any controller has seen it: empty, save for the kinds
/// that kube-apiserver starts with one.
pub(crate) fn reset_status(at: &Served, object: &mut Value) {
    if !at.version().status {
        return;
    }
    let status = match at.resource.kind.as_str() {
        "Namespace" => json!({"phase": "Active"}),
        "Pod" => json!({"phase": "Pending"}),
        "Service" => json!({"loadBalancer": {}}),
        _ => Value::Null,
    };
    as_map(object).insert("status".into(), status);
    as_map(object).retain(|field, value| field != "status" || !value.is_null());
    if at.resource.is("", "namespaces") {
        let called = name(object).to_owned();
        let labels = map(object, "metadata").entry("labels").or_insert_with(|| json!({}));
        as_map(labels).insert("kubernetes.io/metadata.name".into(), called.into());
    }
}

/// Brings an object from one version of its kind into another.
pub(crate) fn convert(to: &str, object: &mut Value) {
    as_map(object).insert("apiVersion".into(), to.into());
}

fn metadata_causes(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let called = name(object);
    let legal = match resource.kind.as_str() {
        "Namespace" => is_label(called),
        "Service" => is_label(called) && called.starts_with(|c: char| c.is_ascii_lowercase()),
        _ => is_subdomain(called),
    };
    if !legal {
        let rule = "must consist of lower case alphanumeric characters, '-' or '.', and must start \
                    and end with an alphanumeric character";
        causes.push(Cause::invalid("metadata.name", &called.into(), rule));
    }
    let annotations = members(object, "/metadata/annotations");
    let length = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    let total: usize = annotations.map(length).sum();
    if total > MAX_ANNOTATIONS {
        let message = format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes");
        causes.push(Cause::new("metadata.annotations", message));
    }
    for owner in list(object, "/metadata/ownerReferences") {
        if ["/apiVersion", "/kind", "/name", "/uid"].iter().any(|at| text(owner, at).is_empty()) {
            let rule = "needs apiVersion, kind, name and uid";
            causes.push(Cause::invalid("metadata.ownerReferences", owner, rule));
        }
    }
    causes
}

/// RFC 1123 label: what a namespace, a port or a hostname is called.
pub(crate) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_dashed(name)
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dashed)
}

fn is_dashed(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(part.chars().next())
        && edge(part.chars().next_back())
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_label("a-1") && !is_label("-a") && !is_label("a.b") && !is_label("A"));
        assert!(is_subdomain("a.b-c.d") && !is_subdomain("a..b") && !is_subdomain(""));
    }
}
