//! Pure: what the API refuses and why, in the words kube-apiserver uses, so that a client's
//! error handling meets here what it will meet in a real cluster.

use serde_json::{Value, json};

use crate::resource::Resource;

/// A refusal by the API. It becomes the `Status` object of the HTTP answer.
///
/// Codes below 500 are the caller's fault and repeating the same request does not help, save for
/// 409 (read again, then retry) and 410 (list again, then watch from there).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} ({reason}, {code})")]
pub struct ApiError {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

/// One field that is wrong, as it stands in `details.causes` of a 422.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Cause {
    /// A value that is not allowed.
    pub(crate) fn invalid(field: &str, value: &Value, message: &str) -> Self {
        let shown: String = value.to_string().chars().take(200).collect();
        Self::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {shown}: {message}"),
        )
    }

    /// A value that has to be there and is not.
    pub(crate) fn required(field: &str, message: &str) -> Self {
        let colon = if message.is_empty() { "" } else { ": " };
        Self::new(
            "FieldValueRequired",
            field,
            format!("Required value{colon}{message}"),
        )
    }

    /// A value that occurs twice.
    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {value}"),
        )
    }

    /// A value outside the listed ones.
    pub(crate) fn unsupported(field: &str, value: &Value, allowed: &str) -> Self {
        let message = format!("Unsupported value: {value}: supported values: {allowed}");
        Self::new("FieldValueNotSupported", field, message)
    }

    /// A value of the wrong JSON type.
    pub(crate) fn wrong_type(field: &str, value: &Value, wanted: &str) -> Self {
        let shown: String = value.to_string().chars().take(200).collect();
        let message = format!("Invalid value: {shown}: must be of type {wanted}");
        Self::new("FieldValueTypeInvalid", field, message)
    }

    /// More than the limit.
    pub(crate) fn too_long(field: &str, message: &str) -> Self {
        Self::new("FieldValueTooLong", field, format!("Too long: {message}"))
    }

    /// A field that may not be set here.
    pub(crate) fn forbidden(field: &str, message: &str) -> Self {
        Self::new(
            "FieldValueForbidden",
            field,
            format!("Forbidden: {message}"),
        )
    }

    fn new(reason: &'static str, field: &str, message: String) -> Self {
        Self {
            reason,
            field: field.to_owned(),
            message,
        }
    }
}

impl ApiError {
    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The machine-readable reason, such as `NotFound` or `Conflict`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The `Status` object that stands for this refusal on the wire.
    #[must_use]
    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details,
            "code": self.code,
        })
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unknown_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let what = resource.qualified();
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 410: the version asked for is older than what is remembered.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("the request's body is over {limit} bytes"),
        )
    }

    pub(crate) fn unsupported_media(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Self {
        let told: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(
            422,
            "Invalid",
            format!("{} \"{name}\" is invalid: {told}", resource.kind),
        );
        error.details = json!({
            "name": name, "group": resource.group, "kind": resource.kind,
            "causes": causes.iter().map(|cause| json!({
                "reason": cause.reason, "field": cause.field, "message": cause.message,
            })).collect::<Vec<_>>(),
        });
        error
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// 504: a version that this server has not reached yet.
    pub(crate) fn version_ahead(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(504, "Timeout", message);
        error.details = json!({
            "retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        });
        error
    }

    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: json!({}),
        }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details = json!({"name": name, "group": resource.group, "kind": resource.plural});
        self
    }
}
