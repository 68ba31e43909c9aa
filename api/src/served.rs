//! Clients that use the version of the Multi-Cluster Services API which an API server serves.
//!
//! Landbridge speaks v1beta1. Where only v1alpha1 is installed its requests ask for that one instead: the two have one
//! schema, and an object differs in nothing but what its `apiVersion` says. What is served is asked for with the first
//! request, again when the version that is used has gone, and with every listing and watch while the newer one is not
//! there, so that definitions may be replaced while components run.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use http::{Method, Request, Response, StatusCode, Uri, request::Parts};
use kube::{Client, client::Body};
use serde_json::Value;
use tokio::sync::watch;
use tower::service_fn;

/// How soon what is served may be asked for again: objects that are gone are answered like versions that are.
const AGAIN: Duration = Duration::from_secs(1);
/// The kinds that have to be served in a version, so that it can be used.
const KINDS: [&str; 2] = ["serviceexports", "serviceimports"];

/// A version of the Multi-Cluster Services API.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum McsVersion {
    /// The only one of older releases.
    V1alpha1,
    /// The one that Landbridge speaks.
    #[default]
    V1beta1,
}

impl McsVersion {
    /// What objects of this version say: group and version.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1alpha1 => "multicluster.x-k8s.io/v1alpha1",
            Self::V1beta1 => "multicluster.x-k8s.io/v1beta1",
        }
    }
}

/// Tells which version is used, and each change of it.
#[derive(Clone, Debug)]
pub struct Served(watch::Receiver<McsVersion>);

impl Served {
    /// The version that is used now, and then each that is used instead. Ends with the client.
    pub fn versions(self) -> impl Stream<Item = McsVersion> + Send {
        stream::unfold((self.0, true), |(mut versions, is_first)| async move {
            if !is_first {
                versions.changed().await.ok()?;
            }
            let version = *versions.borrow_and_update();
            Some((version, (versions, false)))
        })
    }
}

/// A client that asks `client`'s API server for the version of the Multi-Cluster Services API that it serves.
#[must_use]
pub fn adapt(client: Client) -> (Client, Served) {
    let (version, served) = watch::channel(McsVersion::default());
    let namespace = client.default_namespace().to_owned();
    let adapter = Arc::new(Adapter { client, version, asked: Mutex::default() });
    let service = service_fn(move |request| {
        let adapter = Arc::clone(&adapter);
        async move { Box::pin(adapter.send(request)).await }
    });
    (Client::new(service, namespace), Served(served))
}

struct Adapter {
    client: Client,
    version: watch::Sender<McsVersion>,
    /// When it was last asked what is served.
    asked: Mutex<Option<Instant>>,
}

impl Adapter {
    async fn send(&self, request: Request<Body>) -> kube::Result<Response<Body>> {
        if !is_mcs(request.uri()) {
            return self.client.send(request).await;
        }
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?.to_vec();
        let used = *self.version.borrow();
        // Definitions that are replaced end the watches, so what comes next asks.
        let is_old = used != McsVersion::default() && parts.method == Method::GET;
        if self.may_ask(|asked| asked.is_none() || is_old) {
            self.ask().await;
        }
        let used = *self.version.borrow();
        let answer = self.client.send(request_in(used, &parts, &body)).await?;
        if answer.status() != StatusCode::NOT_FOUND || !self.may_ask(|_| true) {
            return Ok(answer);
        }
        self.ask().await;
        let now = *self.version.borrow();
        if now == used {
            return Ok(answer);
        }
        self.client.send(request_in(now, &parts, &body)).await
    }

    /// Whether it is wanted and time to ask; then it is as good as asked.
    fn may_ask(&self, is_wanted: impl Fn(Option<Instant>) -> bool) -> bool {
        let now = Instant::now();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = asked.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN);
        let may = is_time && is_wanted(*asked);
        if may {
            *asked = Some(now);
        }
        may
    }

    /// Asks what is served. Where the API server does not say, what was used is used on.
    async fn ask(&self) {
        for version in [McsVersion::V1beta1, McsVersion::V1alpha1] {
            match self.client.list_api_group_resources(version.api_version()).await {
                Ok(told) => {
                    let names: Vec<&str> =
                        told.resources.iter().map(|resource| resource.name.as_str()).collect();
                    if KINDS.iter().all(|kind| names.contains(kind)) {
                        self.version
                            .send_if_modified(|used| std::mem::replace(used, version) != version);
                        return;
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether a request is for something of the Multi-Cluster Services API, as Landbridge asks for it.
fn is_mcs(uri: &Uri) -> bool {
    let path = uri.path().strip_prefix("/apis/multicluster.x-k8s.io/v1beta1/");
    path.is_some_and(|path| path.split('/').any(|part| KINDS.contains(&part)))
}

/// A request for v1beta1 as one for `version`.
fn request_in(version: McsVersion, parts: &Parts, body: &[u8]) -> Request<Body> {
    let mut parts = parts.clone();
    let mut body = body.to_vec();
    let spoken = McsVersion::default();
    if version != spoken {
        let path = parts.uri.to_string().replacen(spoken.api_version(), version.api_version(), 1);
        if let Ok(uri) = path.parse() {
            parts.uri = uri;
        }
        if let Ok(Value::Object(mut object)) = serde_json::from_slice(&body)
            && object.get("apiVersion").is_some_and(|said| said == spoken.api_version())
        {
            object.insert("apiVersion".to_owned(), version.api_version().into());
            body = Value::Object(object).to_string().into_bytes();
        }
    }
    Request::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use kube::{Api, api::PostParams};
    use serde_json::json;

    use super::*;
    use crate::mcs::ServiceExport;

    /// An API server that serves what `served` says at the moment, and answers every request with what it was sent.
    fn server(
        served: watch::Receiver<&'static [&'static str]>,
    ) -> (Client, Arc<Mutex<Vec<String>>>) {
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&log);
        let service = service_fn(move |request: Request<Body>| {
            let (served, log) = (*served.borrow(), Arc::clone(&told));
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                let body: Value =
                    serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
                log.lock().unwrap().push(format!("{} {path}", parts.method));
                let version = path.split('/').nth(3).unwrap();
                let answer = |code: u16, body: Value| {
                    let body = Body::from(body.to_string().into_bytes());
                    Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
                };
                if !served.contains(&version) {
                    return answer(
                        404,
                        json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "page not found", "status": "Failure"}),
                    );
                }
                if path.split('/').count() == 4 {
                    // ClusterProfiles are of the group's v1alpha1 whatever is installed of the rest.
                    let kinds = [&KINDS[..], &["clusterprofiles"]].concat();
                    let resource = |name: &&str| json!({"name": name, "singularName": "", "namespaced": true, "kind": "X", "verbs": []});
                    let resources: Vec<Value> = kinds.iter().map(resource).collect();
                    return answer(
                        200,
                        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": path, "resources": resources}),
                    );
                }
                assert!(
                    body.is_null()
                        || body["apiVersion"] == format!("multicluster.x-k8s.io/{version}"),
                    "{body}"
                );
                answer(
                    200,
                    if body.is_null() { json!({"metadata": {}, "items": []}) } else { body },
                )
            }
        });
        (Client::new(service, "default"), log)
    }

    async fn check(api: &Api<ServiceExport>, log: &Arc<Mutex<Vec<String>>>) -> Vec<String> {
        log.lock().unwrap().clear();
        let export: ServiceExport =
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "web"}}))
                .unwrap();
        api.create(&PostParams::default(), &export).await.unwrap();
        let all = log.lock().unwrap().clone();
        all.iter().map(|line| line.replace("/apis/multicluster.x-k8s.io", "")).collect()
    }

    #[tokio::test]
    async fn requests_ask_for_the_version_that_is_served() {
        let (serve, served) = watch::channel::<&'static [&'static str]>(&["v1alpha1"]);
        let (client, log) = server(served);
        let (client, told) = adapt(client);
        let api: Api<ServiceExport> = Api::namespaced(client, "shop");
        let post = |version: &str| format!("POST /{version}/namespaces/shop/serviceexports");
        let asked = ["GET /v1beta1", "GET /v1alpha1"].map(str::to_owned);
        assert_eq!(check(&api, &log).await, [&asked[..], &[post("v1alpha1")]].concat());
        assert_eq!(check(&api, &log).await, [post("v1alpha1")], "what is known is not asked again");
        let mut told = Box::pin(told.versions());
        assert_eq!(told.next().await, Some(McsVersion::V1alpha1));

        // The newer one is installed, and used as soon as something is listed.
        serve.send_replace(&["v1alpha1", "v1beta1"]);
        tokio::time::sleep(AGAIN).await;
        api.list(&kube::api::ListParams::default()).await.unwrap();
        assert_eq!(told.next().await, Some(McsVersion::V1beta1));
        assert_eq!(check(&api, &log).await, [post("v1beta1")]);

        // It goes again: the request that finds out is sent once more.
        serve.send_replace(&["v1alpha1"]);
        tokio::time::sleep(AGAIN).await;
        let found_out = [&[post("v1beta1")], &asked[..], &[post("v1alpha1")]].concat();
        assert_eq!(check(&api, &log).await, found_out);
        assert_eq!(told.next().await, Some(McsVersion::V1alpha1));
    }

    #[tokio::test]
    async fn what_is_of_no_version_is_told_as_not_found() {
        let (_serve, served) = watch::channel::<&'static [&'static str]>(&[]);
        let (client, _) = server(served);
        let api: Api<ServiceExport> = Api::namespaced(adapt(client).0, "shop");
        let error = api.list(&kube::api::ListParams::default()).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 404), "{error}");
    }
}
