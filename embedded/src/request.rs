//! Pure: what an HTTP request asks for: the path, the query and the `Accept` header, read into
//! what the handler decides on.

use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::selector::Selector;
use crate::state::WriteOptions;

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    Api,
    ApiGroups,
    Group(String),
    GroupVersion(String, String),
    Health,
    Objects(Target),
    OpenApi(String, String),
    OpenApiIndex,
    Version,
}

/// A kind's objects, or one of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// The query parameters of the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) bookmarks: bool,
    pub(crate) from: Option<String>,
    pub(crate) include_object: String,
    pub(crate) initial_events: Option<bool>,
    pub(crate) limit: Option<usize>,
    pub(crate) matching: String,
    pub(crate) selector: Selector,
    pub(crate) timeout_seconds: Option<u64>,
    /// The `resourceVersion`; "" and "0" both mean "whatever is there".
    pub(crate) version: Option<u64>,
    pub(crate) watch: bool,
    pub(crate) write: WriteOptions,
}

/// In which form objects are answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Object,
    PartialObject,
    Table,
}

impl Route {
    /// Reads a path; `None` when it names nothing that this API has.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let decoded: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| {
                percent_encoding::percent_decode_str(part)
                    .decode_utf8_lossy()
                    .into_owned()
            })
            .collect();
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
            ["openapi", "v3"] => Self::OpenApiIndex,
            ["openapi", "v3", "api", version] => Self::OpenApi(String::new(), own(version)),
            ["openapi", "v3", "apis", group, version] => Self::OpenApi(own(group), own(version)),
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
        let own = |text: &str| Some(text.to_owned());
        let mut target = Self {
            group: group.to_owned(),
            version: version.to_owned(),
            ..Self::default()
        };
        let rest = match rest {
            // `namespaces/<name>` and its status are the Namespace itself, more is what it holds.
            ["namespaces", namespace, inner @ ..] if !matches!(inner, [] | ["status"]) => {
                target.namespace = own(namespace);
                inner
            }
            whole => whole,
        };
        match rest {
            [plural] => target.plural = (*plural).to_owned(),
            [plural, name] => {
                (target.plural, target.name) = ((*plural).to_owned(), own(name));
            }
            [plural, name, subresource] => {
                (target.plural, target.name) = ((*plural).to_owned(), own(name));
                target.subresource = own(subresource);
            }
            _ => return None,
        }
        Some(target)
    }
}

impl Query {
    /// Reads a query string. Unknown parameters are ignored, as kube-apiserver does.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let text = |name: &str| pairs.get(name).map_or("", String::as_str);
        let truth = |name: &str| match text(name) {
            "" => None,
            value => Some(value != "false" && value != "0"),
        };
        let number = |name: &str| match text(name) {
            "" => Ok(None),
            value => value.parse::<u64>().map(Some).map_err(|_| {
                ApiError::bad_request(format!(
                    "Invalid value: \"{value}\": {name} is not a number"
                ))
            }),
        };
        let limit = number("limit")?.filter(|limit| *limit > 0);
        Ok(Self {
            bookmarks: truth("allowWatchBookmarks").unwrap_or(false),
            from: Some(text("continue").to_owned()).filter(|token| !token.is_empty()),
            include_object: text("includeObject").to_owned(),
            initial_events: truth("sendInitialEvents"),
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            matching: text("resourceVersionMatch").to_owned(),
            selector: Selector::parse(text("labelSelector"), text("fieldSelector"))?,
            timeout_seconds: number("timeoutSeconds")?.filter(|seconds| *seconds > 0),
            version: number("resourceVersion")?.filter(|version| *version > 0),
            watch: truth("watch").unwrap_or(false),
            write: WriteOptions {
                dry_run: dry_run(text("dryRun"))?,
                strict: text("fieldValidation") == "Strict",
            },
        })
    }
}

/// The first form in an `Accept` header that this API answers in.
pub(crate) fn accepted(header: &str) -> Result<Form, ApiError> {
    if header.trim().is_empty() {
        return Ok(Form::Object);
    }
    let forms = header.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let json = matches!(parts.next()?, "application/json" | "application/*" | "*/*");
        match (json, parts.find_map(|part| part.strip_prefix("as="))) {
            (true, None) => Some(Form::Object),
            (true, Some("Table")) => Some(Form::Table),
            (true, Some("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                Some(Form::PartialObject)
            }
            _ => None,
        }
    });
    forms
        .into_iter()
        .next()
        .ok_or_else(ApiError::not_acceptable)
}

/// `dryRun` has one legal value.
pub(crate) fn dry_run(value: &str) -> Result<bool, ApiError> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        _ => Err(ApiError::bad_request(format!(
            "dryRun: Unsupported value: \"{value}\": \"All\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        path: &str,
        namespace: Option<&str>,
        plural: &str,
        name: Option<&str>,
        sub: Option<&str>,
    ) {
        let Some(Route::Objects(target)) = Route::parse(path) else {
            panic!("{path}")
        };
        let found = (
            target.namespace.as_deref(),
            target.plural.as_str(),
            target.name.as_deref(),
            target.subresource.as_deref(),
        );
        assert_eq!(found, (namespace, plural, name, sub), "{path}");
    }

    #[test]
    fn paths() {
        check("/api/v1/pods", None, "pods", None, None);
        check("/api/v1/namespaces", None, "namespaces", None, None);
        check(
            "/api/v1/namespaces/shop",
            None,
            "namespaces",
            Some("shop"),
            None,
        );
        check(
            "/api/v1/namespaces/shop/status",
            None,
            "namespaces",
            Some("shop"),
            Some("status"),
        );
        check(
            "/api/v1/namespaces/shop/pods",
            Some("shop"),
            "pods",
            None,
            None,
        );
        check(
            "/apis/g.io/v1/namespaces/shop/things/a%2Eb",
            Some("shop"),
            "things",
            Some("a.b"),
            None,
        );
        check(
            "/apis/g.io/v1/things/x/status",
            None,
            "things",
            Some("x"),
            Some("status"),
        );
        assert_eq!(Route::parse("/apis/"), Some(Route::ApiGroups));
        assert_eq!(Route::parse("/metrics"), None);
        assert_eq!(Route::parse("/api/v1/a/b/c/d/e"), None);
    }

    #[test]
    fn forms() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accepted(table), Ok(Form::Table));
        assert_eq!(
            accepted("application/vnd.kubernetes.protobuf, */*"),
            Ok(Form::Object)
        );
        assert_eq!(
            accepted("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Ok(Form::PartialObject)
        );
        assert_eq!(accepted("text/html").unwrap_err().code(), 406);
    }
}
