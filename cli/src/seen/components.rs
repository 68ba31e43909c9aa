//! What pods of ours say of themselves: their admin endpoints, asked through the API server, so that nobody has to be where
//! pods are reached.

use std::time::Duration;

use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, client::Body};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;
use serde_json::Value;

use super::{
    Asked, Component, Unread,
    ask::{Depth, late, unread},
};

/// How many are asked at the same time.
const AT_ONCE: usize = 8;
/// How many are asked at all: two of each is the rule, and more than this are not all looked at by people.
const MOST: usize = 32;
/// How long one answer may take: a pod that is away makes the API server wait for 30 seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// What one answer may have: the names of 100,000 services, as a DNS server tells them.
const LONGEST: usize = 64 * 1024 * 1024;
/// What pods are told by, and the name of the port of their admin endpoints.
const COMPONENT: &str = "app.kubernetes.io/component";
const ADMIN: &str = "admin";

/// What each says of itself.
pub(super) async fn all(client: &Client, pods: &[Pod], depth: Depth) -> Vec<Component> {
    let asked = pods.iter().filter(|pod| is_running(pod)).take(MOST);
    let asked = asked.filter_map(|pod| Some((pod, admin_port(pod)?)));
    // Taken together first: what borrows from an iterator lasts too short for a stream.
    let asked: Vec<(&Pod, i32)> = asked.collect();
    let answers = stream::iter(asked).map(|(pod, port)| one(client, pod, port, depth));
    answers.buffered(AT_ONCE).collect().await
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn admin_port(pod: &Pod) -> Option<i32> {
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(ADMIN)).map(|port| port.container_port)
}

async fn one(client: &Client, pod: &Pod, port: i32, depth: Depth) -> Component {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let labels = pod.metadata.labels.as_ref();
    let part = labels.and_then(|labels| labels.get(COMPONENT)).cloned().unwrap_or_default();
    let mut component = Component { pod: name.clone(), part: part.clone(), ..Component::default() };
    let ask = |path: &'static str| text(client, &name, port, path);
    match ask("readyz").await {
        Ok((true, _)) => component.ready = Some(Ok(())),
        Ok((false, why)) => component.ready = Some(Err(why.trim().to_owned())),
        Err(why) => {
            // Who may not ask, or asks what is not there, has the same answer to every other question.
            component.trouble = Some(why);
            return component;
        }
    }
    component.metrics = good(ask("metrics").await);
    if depth == Depth::Thorough {
        component.snapshot = json(ask("debug/snapshot").await);
        if part == "gateway" {
            component.connections = json(ask("debug/connections").await);
        }
    }
    component
}

fn good(answer: Asked<(bool, String)>) -> Option<String> {
    answer.ok().filter(|(is_good, _)| *is_good).map(|(_, text)| text)
}

fn json(answer: Asked<(bool, String)>) -> Option<Value> {
    serde_json::from_str(&good(answer)?).ok()
}

/// Whether the answer was a good one, and its text.
async fn text(client: &Client, pod: &str, port: i32, path: &str) -> Asked<(bool, String)> {
    let what = "get pods/proxy";
    let uri = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{pod}:{port}/proxy/{path}");
    let request = Request::get(uri).body(Body::empty());
    let request = request.map_err(|error| Unread::Trouble(format!("{what}: {error}")))?;
    let answer = async {
        let answer = client.send(request).await.map_err(|error| unread(&error, what))?;
        let status = answer.status();
        let limited = http_body_util::Limited::new(answer.into_body(), LONGEST);
        let body = limited.collect().await;
        let body = body.map_err(|error| Unread::Trouble(format!("{what}: {error}")))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => Ok((true, text)),
            StatusCode::SERVICE_UNAVAILABLE if text.starts_with("not ready") => Ok((false, text)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Unread::Denied(what.into())),
            StatusCode::NOT_FOUND => Err(Unread::NoKind),
            status => Err(Unread::Trouble(format!("{what}: {status}"))),
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
}
