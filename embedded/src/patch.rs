//! Pure: the patch formats of the API. Strategic merge is read as merge patch for core kinds:
//! lists are replaced whole, and directives that would need merge keys are refused by name.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::error::ApiError;
use crate::resource::{Served, Shape};

/// A patch as its media type says it is.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(Vec<PatchOperation>),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a body by its `Content-Type`. 415 for formats that are not served.
    pub(crate) fn parse(media: &str, body: &[u8]) -> Result<Self, ApiError> {
        let malformed = |error: serde_json::Error| {
            ApiError::bad_request(format!("the patch cannot be read: {error}"))
        };
        match media.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => serde_json::from_slice(body)
                .map(Self::Json)
                .map_err(malformed),
            "application/merge-patch+json" => serde_json::from_slice(body)
                .map(Self::Merge)
                .map_err(malformed),
            "application/strategic-merge-patch+json" => serde_json::from_slice(body)
                .map(Self::Strategic)
                .map_err(malformed),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                Err(ApiError::unsupported_media(
                    "server-side apply is not served by the embedded API; use create, update, merge \
                     patch or JSON patch",
                ))
            }
            _ => Err(unsupported()),
        }
    }

    /// Changes `object`, which is in the version that the client speaks.
    pub(crate) fn apply(&self, at: &Served, object: &mut Value) -> Result<(), ApiError> {
        match self {
            Self::Json(operations) => json_patch::patch(object, operations).map_err(|error| {
                ApiError::unprocessable(format!("the JSON patch does not apply: {error}"))
            }),
            Self::Merge(patch) => merge(object, patch),
            Self::Strategic(_) if matches!(at.version().shape, Shape::Custom(_)) => {
                Err(unsupported())
            }
            Self::Strategic(patch) => {
                let mut patch = patch.clone();
                drop_hints(&mut patch)?;
                merge(object, &patch)
            }
        }
    }
}

fn merge(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request("a merge patch is a JSON object"));
    }
    json_patch::merge(object, patch);
    Ok(())
}

fn unsupported() -> ApiError {
    ApiError::unsupported_media(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json",
    )
}

/// Removes what only orders lists; refuses what would change their meaning.
fn drop_hints(patch: &mut Value) -> Result<(), ApiError> {
    match patch {
        Value::Array(items) => items.iter_mut().try_for_each(drop_hints),
        Value::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("$setElementOrder/"));
            if let Some(directive) = fields.keys().find(|name| name.starts_with('$')) {
                return Err(ApiError::bad_request(format!(
                    "strategic merge directive {directive} is not served by the embedded API; \
                     use a merge patch"
                )));
            }
            fields.values_mut().try_for_each(drop_hints)
        }
        _ => Ok(()),
    }
}
