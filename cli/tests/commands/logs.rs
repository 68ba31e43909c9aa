//! Logs that nobody takes: a full disk, and a pipe that nobody reads. Neither stops what is logged.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    process::Stdio,
};

use crate::running::{Running, Surroundings};

/// A DNS server that says much, and where its admin endpoint is.
fn dns(around: &Surroundings, log: impl Into<Stdio>) -> Running {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin: SocketAddr = free.local_addr().unwrap();
    drop(free);
    let address = admin.to_string();
    let arguments =
        ["dns", "--listen", "127.0.0.1:0", "--admin-listen", &address, "--log", "trace"];
    Running::start_logging(&around.arguments(&arguments), admin, log)
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    let around = Surroundings::new().await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let dns = dns(&around, full);
    dns.wait_until_ready();
    let metrics = dns.get("/metrics").1;
    let line = metrics.lines().find(|line| line.starts_with("landbridge_log_lines_lost_total "));
    let lost = line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    assert!(lost.is_some_and(|lost| lost > 0), "{metrics}");
    let (status, _) = dns.terminate();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let around = Surroundings::new().await;
    let (_unread, log) = io::pipe().unwrap();
    let dns = dns(&around, log);
    dns.wait_until_ready();
    // Each is told of in kilobytes, of which a pipe takes 64.
    for _ in 0..200 {
        assert_eq!(dns.get("/healthz").0, "HTTP/1.1 200 OK");
    }
    let (status, _) = dns.terminate();
    assert!(status.success(), "{status}");
}
