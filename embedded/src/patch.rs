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
}

impl Patch {
    /// Reads a body by its `Content-Type`. 415 for formats that are not served.
    pub(crate) fn parse(at: &Served, media: &str, body: &[u8]) -> Result<Self, ApiError> {
        let media = media.split(';').next().unwrap_or_default().trim();
        let core = matches!(at.version().shape, Shape::Core(_));
        let read = match media {
            "application/json-patch+json" => serde_json::from_slice(body).map(Self::Json),
            "application/merge-patch+json" => serde_json::from_slice(body).map(Self::Merge),
            "application/strategic-merge-patch+json" if core => {
                serde_json::from_slice(body).map(Self::Merge)
            }
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                let message = "server-side apply is not served by the embedded API; use create, \
                               update, merge patch or JSON patch";
                return Err(ApiError::new(415, message));
            }
            _ => {
                let message = "the body of the request was in an unknown format - accepted media \
                               types include: application/json-patch+json, application/merge-patch+json";
                return Err(ApiError::new(415, message));
            }
        };
        let malformed = |error| ApiError::new(400, format!("the patch cannot be read: {error}"));
        let mut patch = read.map_err(malformed)?;
        match &mut patch {
            Self::Merge(merge) if media.contains("strategic") => drop_hints(merge)?,
            Self::Merge(merge) if !merge.is_object() => {
                return Err(ApiError::new(400, "a merge patch is a JSON object"));
            }
            _ => {}
        }
        Ok(patch)
    }

    /// Changes `object`, which is in the version that the client speaks.
    pub(crate) fn apply(&self, object: &mut Value) -> Result<(), ApiError> {
        match self {
            Self::Json(operations) => json_patch::patch(object, operations).map_err(|error| {
                ApiError::new(422, format!("the JSON patch does not apply: {error}"))
            }),
            Self::Merge(patch) => {
                json_patch::merge(object, patch);
                Ok(())
            }
        }
    }
}

/// Removes what only orders lists; refuses what would change their meaning.
fn drop_hints(patch: &mut Value) -> Result<(), ApiError> {
    match patch {
        Value::Array(items) => items.iter_mut().try_for_each(drop_hints),
        Value::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("$setElementOrder/"));
            if let Some(directive) = fields.keys().find(|name| name.starts_with('$')) {
                let message =
                    format!("strategic merge directive {directive} is not served; use merge patch");
                return Err(ApiError::new(400, message));
            }
            fields.values_mut().try_for_each(drop_hints)
        }
        _ => Ok(()),
    }
}
