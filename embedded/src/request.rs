//! Pure: what an HTTP request asks for: the path, the query and the `Accept` header, read into
//! what the handler decides on.

use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::selector::Selector;

/// Query parameters that a client must not believe to be heeded.
const UNSERVED: [&str; 2] = ["dryRun", "sendInitialEvents"];

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    Api,
    ApiGroups,
    Group(String),
    GroupVersion(String, String),
    Health,
    Objects(Target),
    Version,
}

/// A kind's objects, or one of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    /// Empty when all of the kind are meant.
    pub(crate) name: String,
    /// Whether the status alone is meant.
    pub(crate) status: bool,
}

/// The query parameters of the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) bookmarks: bool,
    /// The token of a list's next page.
    pub(crate) from: Option<String>,
    pub(crate) limit: Option<usize>,
    /// The `resourceVersionMatch`.
    pub(crate) matching: String,
    pub(crate) selector: Selector,
    pub(crate) timeout_seconds: Option<u64>,
    /// The `resourceVersion`; "" and "0" both mean "whatever is there".
    pub(crate) version: Option<u64>,
    pub(crate) watch: bool,
}

/// In which form objects are answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Object,
    Table,
}

impl Route {
    /// Reads a path; `None` when it names nothing that this API has.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let decode =
            |part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let decoded: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let own = |text: &str| text.to_owned();
        Some(match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Self::Health,
            ["version"] => Self::Version,
            ["api"] => Self::Api,
            ["apis"] => Self::ApiGroups,
            ["api", version] => Self::GroupVersion(String::new(), own(version)),
            ["apis", group] => Self::Group(own(group)),
            ["apis", group, version] => Self::GroupVersion(own(group), own(version)),
            ["api", version, rest @ ..] => Self::Objects(Target::parse("", version, rest)?),
            ["apis", group, version, rest @ ..] => {
                Self::Objects(Target::parse(group, version, rest)?)
            }
            _ => return None,
        })
    }
}

impl Target {
    fn parse(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        // `namespaces/<name>` and its status are the Namespace itself, more is what it holds.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, inner @ ..] if !matches!(inner, [] | ["status"]) => {
                (Some((*namespace).to_owned()), inner)
            }
            whole => (None, whole),
        };
        let (plural, name, status) = match rest {
            [plural] => (*plural, "", false),
            [plural, name] => (*plural, *name, false),
            [plural, name, "status"] => (*plural, *name, true),
            _ => return None,
        };
        let [group, version, plural, name] = [group, version, plural, name].map(str::to_owned);
        Some(Self { group, version, plural, namespace, name, status })
    }
}

impl Query {
    /// Reads a query string. Unknown parameters are ignored, as kube-apiserver does.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs: BTreeMap<String, String> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let text = |name: &str| pairs.get(name).map_or("", String::as_str);
        if let Some(option) = UNSERVED.iter().find(|option| !text(option).is_empty()) {
            return Err(unserved(option));
        }
        let truth = |name: &str| !["", "0", "false"].contains(&text(name));
        let number = |name: &str| -> Result<Option<u64>, ApiError> {
            let refuse = |_| ApiError::new(400, format!("Invalid value: {name} is not a number"));
            let given = Some(text(name)).filter(|given| !given.is_empty());
            let number = given.map(|given| given.parse().map_err(refuse)).transpose()?;
            Ok(number.filter(|number| *number > 0))
        };
        Ok(Self {
            bookmarks: truth("allowWatchBookmarks"),
            from: Some(text("continue").to_owned()).filter(|token| !token.is_empty()),
            limit: number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            matching: text("resourceVersionMatch").to_owned(),
            selector: Selector::parse(text("labelSelector"), text("fieldSelector"))?,
            timeout_seconds: number("timeoutSeconds")?,
            version: number("resourceVersion")?,
            watch: truth("watch"),
        })
    }
}

/// The first form in an `Accept` header that this API answers in.
pub(crate) fn accepted(header: &str) -> Result<Form, ApiError> {
    let form = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let json = ["", "application/json", "application/*", "*/*"].contains(&parts.next()?);
        match (json, parts.find_map(|part| part.strip_prefix("as="))) {
            (true, None) => Some(Form::Object),
            (true, Some("Table")) => Some(Form::Table),
            _ => None,
        }
    };
    let message = "only the following media types are accepted: application/json";
    header.split(',').find_map(form).ok_or_else(|| ApiError::new(406, message))
}

/// An option that would change what a request means must not be passed over in silence.
pub(crate) fn unserved(option: &str) -> ApiError {
    ApiError::new(422, format!("{option} is not served by the embedded API"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, namespace: Option<&str>, plural: &str, name: &str, status: bool) {
        let Some(Route::Objects(target)) = Route::parse(path) else { panic!("{path}") };
        let found = (target.namespace.as_deref(), target.plural.as_str(), target.name.as_str());
        assert_eq!((found, target.status), ((namespace, plural, name), status), "{path}");
    }

    #[test]
    fn paths() {
        check("/api/v1/pods", None, "pods", "", false);
        check("/api/v1/namespaces", None, "namespaces", "", false);
        check("/api/v1/namespaces/shop", None, "namespaces", "shop", false);
        check("/api/v1/namespaces/shop/status", None, "namespaces", "shop", true);
        check("/api/v1/namespaces/shop/pods", Some("shop"), "pods", "", false);
        check("/apis/g.io/v1/namespaces/shop/things/a%2Eb", Some("shop"), "things", "a.b", false);
        check("/apis/g.io/v1/things/x/status", None, "things", "x", true);
        assert_eq!(Route::parse("/api/v1/namespaces/shop/pods/a/log"), None);
        assert_eq!(Route::parse("/apis/"), Some(Route::ApiGroups));
        assert_eq!(Route::parse("/metrics"), None);
        assert_eq!(Route::parse("/api/v1/a/b/c/d/e"), None);
    }

    #[test]
    fn what_is_not_served_is_refused() {
        assert_eq!(Query::parse("dryRun=All").unwrap_err().code(), 422);
        let streamed = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        assert_eq!(Query::parse(streamed).unwrap_err().code(), 422);
    }

    #[test]
    fn forms() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accepted(table), Ok(Form::Table));
        assert_eq!(accepted("application/vnd.kubernetes.protobuf, */*"), Ok(Form::Object));
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(accepted(partial).unwrap_err().code(), 406, "not served");
        assert_eq!(accepted("text/html").unwrap_err().code(), 406);
    }
}
