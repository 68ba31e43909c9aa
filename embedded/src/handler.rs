//! One HTTP request: read, asked of the store, answered. Everything that is decided here is which
//! verb a method and a path mean; what the verb does stands in `state.rs`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::Value;

use crate::answer::{Page, Style, deleted, error_event};
use crate::discovery;
use crate::error::{ApiError, Made};
use crate::object::{list, text};
use crate::patch::Patch;
use crate::request::{Query, Route, Target, accepted, unserved};
use crate::state::{State, To, is_held};
use crate::store::{Store, present, to};
use crate::stream;

/// kube-apiserver's own bound on a request's body.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// What every answer is made of.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

type Answer = Result<Response<Body>, ApiError>;

/// One request about a kind's objects.
struct Call {
    store: Store,
    to: To,
    style: Style,
    /// The namespace that the path names.
    within: Option<String>,
    query: Query,
}

/// Answers a request; a refusal becomes a `Status`.
pub(crate) async fn respond(store: Store, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let answer = answer(store, &parts, body).await;
    answer.unwrap_or_else(|error| {
        let (method, path) = (&parts.method, parts.uri.path());
        tracing::debug!(%method, path, %error, "refused");
        json(error.code(), &error.status())
    })
}

async fn answer(store: Store, parts: &Parts, body: Incoming) -> Answer {
    // No Kubernetes client sends an origin; a web page in a browser on this machine would.
    if parts.headers.contains_key(ORIGIN) {
        return Err(ApiError::new(400, "requests from web pages are not answered"));
    }
    match Route::parse(parts.uri.path()).ok_or_else(ApiError::unknown_path)? {
        Route::Objects(target) => Call::new(store, target, parts)?.answer(parts, body).await,
        route if parts.method == Method::GET => about_itself(&store, &route),
        _ => Err(not_allowed()),
    }
}

/// Discovery, health and version.
fn about_itself(store: &Store, route: &Route) -> Answer {
    let kinds = store.lock().resources.clone();
    let told = match route {
        Route::Api => discovery::core_versions(),
        Route::ApiGroups => discovery::groups(&kinds),
        Route::Group(group) => discovery::group(&kinds, group)?,
        Route::GroupVersion(group, version) => discovery::resources(&kinds, group, version)?,
        Route::Version => discovery::version(),
        Route::Health | Route::Objects(_) => return Ok(response(200, full("ok"))),
    };
    Ok(json(200, &told))
}

impl Call {
    fn new(store: Store, target: Target, parts: &Parts) -> Result<Self, ApiError> {
        let at = store.lock().served(&target.group, &target.version, &target.plural);
        let at = at.ok_or_else(ApiError::unknown_path)?;
        let Target { namespace: within, name, status, .. } = target;
        let misplaced = within.is_some() != at.resource.namespaced;
        let in_vain = misplaced && (within.is_some() || !name.is_empty());
        if in_vain || (status && !at.version().status) {
            return Err(ApiError::unknown_path());
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let style = Style { at: at.clone(), form: accepted(header(parts, &ACCEPT))? };
        let mut to = to(at, within.as_deref().unwrap_or_default(), &name);
        to.status = status;
        Ok(Self { store, to, style, within, query })
    }

    async fn answer(mut self, parts: &Parts, body: Incoming) -> Answer {
        let (at, named) = (&self.to.at, !self.to.key.1.is_empty());
        let (placed, media) = (self.within.is_some(), header(parts, &CONTENT_TYPE));
        match (&parts.method, named) {
            (&Method::GET, true) => {
                let found = Arc::clone(self.store.lock().find(at, &self.to.key)?);
                Ok(self.shown(200, &present(at, &found)))
            }
            (&Method::GET, false) if self.query.watch => self.watch(),
            (&Method::GET, false) => {
                let within = self.within.as_deref();
                let page = Page::read(&self.store.lock(), at, within, &self.query)?;
                Ok(json(200, &page.encode(&self.style, Timestamp::now())))
            }
            (&Method::POST, false) if placed || !at.resource.namespaced => {
                let object = decode(media, &read(body).await?)?;
                self.write(201, |state, to| state.create(to, object))
            }
            (&Method::PUT, true) => {
                let object = decode(media, &read(body).await?)?;
                self.write(200, |state, to| state.update(to, object))
            }
            (&Method::PATCH, true) => {
                let patch = Patch::parse(media, &read(body).await?)?;
                self.write(200, |state, to| state.patch(to, &patch))
            }
            (&Method::DELETE, true) if !self.to.status => {
                let body = read(body).await?;
                if !body.is_empty() {
                    self.insist(&decode(media, &body)?)?;
                }
                self.delete()
            }
            _ => Err(not_allowed()),
        }
    }

    fn shown(&self, code: u16, object: &Arc<Value>) -> Response<Body> {
        json(code, &self.style.object(object, Timestamp::now()))
    }

    fn write(&self, code: u16, change: impl FnOnce(&mut State, &To) -> Made) -> Answer {
        let kept = self.store.write(&self.to, |state| change(state, &self.to))?;
        Ok(self.shown(code, &kept))
    }

    fn watch(&self) -> Answer {
        let (at, within) = (&self.to.at, self.within.as_deref());
        let (selector, from) = (self.query.selector.clone(), self.query.version);
        // As in kube-apiserver, a version that is gone is told within the watch.
        let body = match self.store.watch_from(at, within, selector, from) {
            Ok(watch) => stream::events(watch, self.style.clone(), &self.query),
            Err(error) => full(error_event(&error)),
        };
        Ok(response(200, body))
    }

    /// Takes what a delete's body insists on.
    fn insist(&mut self, body: &Value) -> Result<(), ApiError> {
        if !list(body, "/dryRun").is_empty() {
            return Err(unserved("dryRun"));
        }
        for field in ["/metadata/uid", "/metadata/resourceVersion"] {
            let wanted = text(body, &field.replace("metadata", "preconditions"));
            if !wanted.is_empty() {
                self.to.insist.push((field, wanted.to_owned()));
            }
        }
        Ok(())
    }

    fn delete(&self) -> Answer {
        let left = self.store.write(&self.to, |state| state.delete(&self.to))?;
        if is_held(&left) {
            return Ok(self.shown(200, &left));
        }
        Ok(json(200, &deleted(&self.to.at, &left)))
    }
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(413, format!("the request's body is over {MAX_BODY} bytes")))
        }
        Err(error) => Err(ApiError::new(400, format!("the body broke off: {error}"))),
    }
}

fn decode(media: &str, body: &[u8]) -> Result<Value, ApiError> {
    let media = media.split(';').next().unwrap_or_default().trim();
    if !["", "application/json"].contains(&media) {
        let message = "the body of the request was in an unknown format - accepted media types \
                       include: application/json";
        return Err(ApiError::new(415, message));
    }
    let unread = |error| ApiError::new(400, format!("the body cannot be read: {error}"));
    serde_json::from_slice(body).map_err(unread)
}

fn not_allowed() -> ApiError {
    ApiError::new(405, "the server does not allow this method on the requested resource")
}

fn header<'a>(parts: &'a Parts, name: &HeaderName) -> &'a str {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn json(code: u16, body: &Value) -> Response<Body> {
    response(code, full(body.to_string()))
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

fn response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
