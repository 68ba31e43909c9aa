//! Pure: the patch formats of the API: JSON patch and merge patch.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::error::ApiError;

/// A patch as its media type says it is.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(Vec<PatchOperation>),
    Merge(Value),
}

impl Patch {
    /// Reads a body by its `Content-Type`. 415 for formats that are not served.
    pub(crate) fn parse(media: &str, body: &[u8]) -> Result<Self, ApiError> {
        let read = match media.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => serde_json::from_slice(body).map(Self::Json),
            "application/merge-patch+json" => serde_json::from_slice(body).map(Self::Merge),
            other => {
                let message = format!(
                    "{other} is not served by the embedded API; use merge patch \
                     (application/merge-patch+json) or JSON patch (application/json-patch+json)"
                );
                return Err(ApiError::new(415, message));
            }
        };
        let malformed = |error| ApiError::new(400, format!("the patch cannot be read: {error}"));
        match read.map_err(malformed)? {
            Self::Merge(merge) if !merge.is_object() => {
                Err(ApiError::new(400, "a merge patch is a JSON object"))
            }
            patch => Ok(patch),
        }
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
