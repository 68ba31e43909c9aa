//! Pure: what the API refuses and why, in the words kube-apiserver uses, so that a client's
//! error handling meets here what it will meet in a real cluster.

use std::sync::Arc;

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

/// What a write makes of an object.
pub(crate) type Made = Result<Arc<Value>, ApiError>;

/// One field that is wrong, as it stands in `details.causes` of a 422.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cause {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Cause {
    /// `message` begins with kube-apiserver's words for the kind of mistake.
    pub(crate) fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }

    /// A value that is not allowed.
    pub(crate) fn invalid(field: &str, value: &Value, why: &str) -> Self {
        let shown: String = value.to_string().chars().take(200).collect();
        Self::new(field, format!("Invalid value: {shown}: {why}"))
    }

    fn reason(&self) -> &'static str {
        let kinds = [
            ("Duplicate", "FieldValueDuplicate"),
            ("Required", "FieldValueRequired"),
            ("Too long", "FieldValueTooLong"),
            ("Too many", "FieldValueTooMany"),
            ("Unsupported", "FieldValueNotSupported"),
        ];
        let found = kinds.iter().find(|(word, _)| self.message.starts_with(word));
        found.map_or("FieldValueInvalid", |(_, reason)| reason)
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
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code})
    }

    /// A refusal whose reason follows from its code.
    pub(crate) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            406 => "NotAcceptable",
            409 => "Conflict",
            410 => "Expired",
            413 => "RequestEntityTooLarge",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            504 => "Timeout",
            _ => "InternalError",
        };
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    pub(crate) fn unknown_path() -> Self {
        Self::new(404, "the server could not find the requested resource")
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Self::new(404, message).about(resource, name)
    }

    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        Self { reason: "AlreadyExists", ..Self::new(409, message).about(resource, name) }
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let what = resource.qualified();
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::new(409, message).about(resource, name)
    }

    pub(crate) fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Self {
        let told = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message));
        let mut told = told.collect::<Vec<_>>().join(", ");
        if causes.len() > 1 {
            told = format!("[{told}]");
        }
        let mut error = Self::new(422, format!("{} \"{name}\" is invalid: {told}", resource.kind));
        let cause = |cause: &Cause| json!({"reason": cause.reason(), "field": cause.field, "message": cause.message});
        let causes: Vec<Value> = causes.iter().map(cause).collect();
        error.details =
            json!({"name": name, "group": resource.group, "kind": resource.kind, "causes": causes});
        error
    }

    /// 504: a version that this server has not reached yet.
    pub(crate) fn version_ahead(asked: u64, current: u64) -> Self {
        Self::new(504, format!("Too large resource version: {asked}, current: {current}"))
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details = json!({"name": name, "group": resource.group, "kind": resource.plural});
        self
    }
}
