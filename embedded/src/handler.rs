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

use crate::answer::{self, Page, Style};
use crate::discovery;
use crate::error::ApiError;
use crate::patch::Patch;
use crate::request::{Query, Route, Target, accepted, dry_run};
use crate::resource::{Resource, Served};
use crate::state::{Part, Preconditions};
use crate::store::{Store, key};
use crate::stream;

/// kube-apiserver's own bound on a request's body.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// What every answer is made of.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One request about a kind's objects.
struct Call {
    store: Store,
    target: Target,
    query: Query,
    part: Part,
    style: Style,
}

/// Answers a request; a refusal becomes a `Status`.
pub(crate) async fn respond(store: Store, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    match answer(store, parts, body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%method, path, %error, "refused");
            json(error.code(), answer::bytes(&error.status()))
        }
    }
}

async fn answer(store: Store, parts: Parts, body: Incoming) -> Result<Response<Body>, ApiError> {
    // No Kubernetes client sends an origin; a web page in a browser on this machine would.
    if parts.headers.contains_key(ORIGIN) {
        return Err(ApiError::bad_request(
            "requests from web pages are not answered",
        ));
    }
    let route = Route::parse(parts.uri.path()).ok_or_else(ApiError::unknown_path)?;
    let Route::Objects(target) = route else {
        return about_itself(&store, &parts, &route);
    };
    let at = store
        .lock()
        .served(&target.group, &target.version, &target.plural)?;
    let scoped = at.resource.namespaced;
    if (target.namespace.is_some() && !scoped)
        || (target.name.is_some() && scoped && target.namespace.is_none())
    {
        return Err(ApiError::unknown_path());
    }
    let part = match target.subresource.as_deref() {
        None => Part::Main,
        Some("status") if at.version().status => Part::Status,
        Some(_) => return Err(ApiError::unknown_path()),
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let form = accepted(header(&parts, &ACCEPT))?;
    let style = Style {
        at,
        form,
        include_object: query.include_object.clone(),
    };
    let media = header(&parts, &CONTENT_TYPE).to_owned();
    let call = Call {
        store,
        target,
        query,
        part,
        style,
    };
    match (&parts.method, call.target.name.is_some()) {
        (&Method::GET, true) => call.get(),
        (&Method::GET, false) if call.query.watch => call.watch(),
        (&Method::GET, false) => call.list(),
        (&Method::POST, false) => call.create(decode(&media, &read(body).await?)?),
        (&Method::PUT, true) => call.update(decode(&media, &read(body).await?)?),
        (&Method::PATCH, true) => call.patch(&Patch::parse(&media, &read(body).await?)?),
        (&Method::DELETE, _) if call.part == Part::Main => {
            call.delete(&decode_options(&media, &read(body).await?)?)
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Discovery, health and version.
fn about_itself(store: &Store, parts: &Parts, route: &Route) -> Result<Response<Body>, ApiError> {
    if parts.method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let kinds: Vec<Arc<Resource>> = store.lock().resources().cloned().collect();
    let told = match route {
        Route::Api => discovery::core_versions(),
        Route::ApiGroups => discovery::groups(&kinds),
        Route::Group(group) => discovery::group(&kinds, group)?,
        Route::GroupVersion(group, version) => discovery::resources(&kinds, group, version)?,
        Route::OpenApi(group, version) => discovery::openapi(&kinds, group, version)?,
        Route::OpenApiIndex => discovery::openapi_index(&kinds),
        Route::Version => discovery::version(),
        Route::Health | Route::Objects(_) => {
            return Ok(response(
                200,
                "text/plain; charset=utf-8",
                full(b"ok".to_vec()),
            ));
        }
    };
    Ok(json(200, answer::bytes(&told)))
}

impl Call {
    fn at(&self) -> &Served {
        &self.style.at
    }

    fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    fn key(&self) -> crate::state::Key {
        key(
            self.at(),
            self.namespace(),
            self.target.name.as_deref().unwrap_or_default(),
        )
    }

    fn shown(&self, code: u16, object: &Arc<Value>) -> Response<Body> {
        json(code, self.style.object(object, Timestamp::now()))
    }

    fn get(&self) -> Result<Response<Body>, ApiError> {
        let found = Arc::clone(self.store.lock().find(self.at(), &self.key())?);
        Ok(self.shown(200, &crate::store::present(self.at(), &found)))
    }

    fn list(&self) -> Result<Response<Body>, ApiError> {
        let within = self.target.namespace.as_deref();
        let page = Page::read(&self.store.lock(), self.at(), within, &self.query)?;
        Ok(json(200, page.encode(&self.style, Timestamp::now())))
    }

    fn watch(&self) -> Result<Response<Body>, ApiError> {
        answer::check_initial_events(self.at(), &self.query)?;
        let from = match self.query.initial_events {
            Some(true) => None,
            Some(false) => Some(
                self.query
                    .version
                    .unwrap_or_else(|| self.store.lock().version()),
            ),
            None => self.query.version,
        };
        let (selector, within) = (
            self.query.selector.clone(),
            self.target.namespace.as_deref(),
        );
        // As in kube-apiserver, a version that is gone is told within the watch.
        let body = match self.store.watch_at(self.at(), within, selector, from) {
            Ok(watch) => stream::events(watch, self.style.clone(), &self.query),
            Err(error) => full(answer::error_event(&error)),
        };
        Ok(response(200, "application/json", body))
    }

    fn create(&self, object: Value) -> Result<Response<Body>, ApiError> {
        if self.at().resource.namespaced && self.target.namespace.is_none() {
            return Err(ApiError::method_not_allowed());
        }
        let options = self.query.write;
        let kept = self
            .store
            .create_at(self.at(), self.namespace(), object, options)?;
        Ok(self.shown(201, &kept))
    }

    fn update(&self, object: Value) -> Result<Response<Body>, ApiError> {
        let (part, options) = (self.part, self.query.write);
        let kept = self
            .store
            .update_at(self.at(), &self.key(), object, part, options)?;
        Ok(self.shown(200, &kept))
    }

    fn patch(&self, patch: &Patch) -> Result<Response<Body>, ApiError> {
        let (part, options) = (self.part, self.query.write);
        let kept = self
            .store
            .patch_at(self.at(), &self.key(), patch, part, options)?;
        Ok(self.shown(200, &kept))
    }

    fn delete(&self, body: &Value) -> Result<Response<Body>, ApiError> {
        let mut options = self.query.write;
        for wanted in body["dryRun"].as_array().into_iter().flatten() {
            options.dry_run |= dry_run(wanted.as_str().unwrap_or("?"))?;
        }
        let precondition = |field: &str| {
            let given = body.pointer(&format!("/preconditions/{field}"));
            given.and_then(Value::as_str).map(str::to_owned)
        };
        let insist = Preconditions {
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
        };
        if self.target.name.is_some() {
            let (object, held) = self
                .store
                .delete_at(self.at(), &self.key(), &insist, options)?;
            return Ok(match held {
                true => self.shown(200, &object),
                false => json(200, answer::bytes(&answer::deleted(self.at(), &object))),
            });
        }
        let within = self.target.namespace.as_deref();
        let page = Page::read(&self.store.lock(), self.at(), within, &self.query)?;
        for key in page.keys() {
            match self.store.delete_at(self.at(), key, &insist, options) {
                Err(error) if error.code() != 404 => return Err(error),
                _ => {}
            }
        }
        Ok(json(200, page.encode(&self.style, Timestamp::now())))
    }
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(MAX_BODY)),
        Err(error) => Err(ApiError::bad_request(format!(
            "the body broke off: {error}"
        ))),
    }
}

fn decode(media: &str, body: &[u8]) -> Result<Value, ApiError> {
    match media.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| error.to_string()),
        "application/yaml" => serde_norway::from_slice(body).map_err(|error| error.to_string()),
        _ => {
            return Err(ApiError::unsupported_media(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml; where kubectl sends protobuf, use \
                 `kubectl create -f`",
            ));
        }
    }
    .map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))
}

/// The body of a delete, which may be absent.
fn decode_options(media: &str, body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        Ok(Value::Null)
    } else {
        decode(media, body)
    }
}

fn header<'a>(parts: &'a Parts, name: &HeaderName) -> &'a str {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn json(code: u16, body: Vec<u8>) -> Response<Body> {
    response(code, "application/json", full(body))
}

fn full(body: Vec<u8>) -> Body {
    Full::new(Bytes::from(body)).boxed_unsync()
}

fn response(code: u16, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
