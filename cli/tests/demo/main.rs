//! The demo as a stranger meets it: the built binary, its printed lines, and clients that are not ours.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod support;

use std::{net::SocketAddr, path::Path, process::Stdio};

use serde_json::Value;
use support::{Staying, demo, get, import_address, octet, resolve};

/// `demo --once -o json` "exits 0 … and prints one JSON object", in which nothing is a constant.
#[test]
fn once_as_json_prints_what_was_measured() {
    let output = demo(&["--once", "-o", "json", "--loopback", &octet(0)]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], true, "{text}");
    assert_eq!(report["clusters"], serde_json::json!(["paris", "tokyo", "berlin"]));
    for importing in ["tokyo", "berlin"] {
        let at = |what: &str| {
            report[what][importing].as_f64().unwrap_or_else(|| panic!("{what}: {text}"))
        };
        let (import, answer, call) = (at("import_ms"), at("answer_ms"), at("call_ms"));
        assert!(import > 0.0 && answer > 0.0 && call >= answer, "{text}");
    }
    let calls = report["calls"].as_object().unwrap();
    assert_eq!(calls.values().map(|calls| calls.as_u64().unwrap()).sum::<u64>(), 100, "{text}");
    assert!(
        calls["paris"].as_u64() > Some(0) && calls["tokyo"].as_u64() > Some(0),
        "both exporters answer: {text}"
    );
    assert_eq!(report["caller"], "berlin/demo/client/client");
    let failover = &report["failover"];
    assert!(failover["ms"].as_f64() > Some(0.0) && failover["of"].as_u64() > Some(100), "{text}");
    assert!(failover["failed"].as_u64() < failover["of"].as_u64(), "{text}");
    assert_eq!(
        failover["duplicates"], 0,
        "what may have been delivered is never sent twice: {text}"
    );
    assert!(
        report["return_ms"].as_f64() > Some(0.0) && report["unexport_ms"].as_f64() > Some(0.0),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_can_use_what_the_demo_leaves_running() {
    let mut demo = Staying::start(&["--loopback", &octet(1)]);
    let kubectl = demo.line("kubectl --kubeconfig");
    let address = import_address(Path::new(kubectl[2])).await;

    let dig = demo.line("dig ");
    let server = dig[1].trim_start_matches('@').parse().unwrap();
    assert_eq!(resolve(server, dig[3].parse().unwrap(), dig[4]).await, [address]);

    let curl = demo.line("curl --interface");
    let target: SocketAddr =
        curl[3].trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    assert_eq!(target.ip(), address);
    assert!(get(target, "/").contains("\"cluster\":\"paris\""));

    let metrics = demo.line("curl http");
    let admin: SocketAddr =
        metrics[1].trim_start_matches("http://").trim_end_matches("/metrics").parse().unwrap();
    assert!(get(admin, "/metrics").contains("landbridge_gateway_"));
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));

    if let Some(told) = demo.paste(&kubectl) {
        assert!(told.contains("ClusterSetIP") && told.contains(&address.to_string()), "{told}");
    }
    let of_hub =
        demo.lines("kubectl --kubeconfig").into_iter().find(|line| line[2].contains("hub."));
    if let Some(told) = demo.paste(&of_hub.unwrap()) {
        assert!(told.contains("berlin") && told.contains("demo.echo"), "{told}");
    }
    if let Some(told) = demo.paste(&dig) {
        assert!(told.contains(&address.to_string()), "{told}");
    }
    if let Some(told) = demo.paste(&curl) {
        assert!(told.contains("berlin/demo/client/client"), "{told}");
    }

    let folder = demo.folder();
    assert!(folder.exists());
    let status = demo.interrupt();
    assert!(status.success(), "Ctrl-C ends the demo cleanly: {status:?}");
    assert!(!folder.exists(), "nothing is left behind");
}

#[test]
fn a_taken_address_is_told_with_the_remedy() {
    let octet = u8::try_from(20 + std::process::id() % 30).unwrap();
    let _taken =
        std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, octet, 0, 1), 6443)).unwrap();
    let output = demo(&["--once", "--loopback", &octet.to_string()])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains(&format!("127.{octet}.0.1:6443")) && told.contains("--loopback"),
        "{told}"
    );
}
