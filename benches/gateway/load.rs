//! The clients of berlin, as a benchmark sees them: a process in its namespace that is given orders.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use landbridge_benches::child::Child;
use landbridge_xtask::space::Space;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) const ROLE: &str = "clients";

/// What clients are told to do.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Order {
    /// Reads from so many connections.
    Bulk { at: SocketAddr, streams: usize, lasts: Duration },
    /// Makes requests on connections that stay, or on a new one for each request.
    Requests { at: SocketAddr, connections: usize, lasts: Duration, keep: bool },
    /// Opens so many connections, uses each once, and holds them.
    Hold { at: SocketAddr, connections: usize },
    /// Lets them go.
    Release,
    /// Sends datagrams of a size, each when another has come back.
    Datagrams { at: SocketAddr, size: usize, lasts: Duration },
    /// Asks questions at a pace, each on a connection of its own and whatever becomes of the others.
    Ask { at: Entries, prefix: String, every: Duration, lasts: Duration },
    /// Makes requests at a pace, beside a stream that takes all that it gets.
    Beside { bulk: SocketAddr, at: SocketAddr, every: Duration, lasts: Duration },
}

/// Where calls go.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Entries {
    /// Here, whatever happens.
    Fixed(SocketAddr),
    /// To one after the other of those that stand in a file, each in a line, for as long as they do.
    Followed(PathBuf),
}

/// What came through.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Bulk {
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

impl Bulk {
    pub(crate) fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9
    }

    /// Gbit/s.
    pub(crate) fn rate(&self) -> f64 {
        self.gigabits() / self.seconds
    }
}

/// How requests went.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Requests {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Requests {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }
}

/// How datagrams went.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Datagrams {
    pub(crate) sent: u64,
    pub(crate) back: u64,
    pub(crate) seconds: f64,
}

impl Datagrams {
    /// Datagrams a second that came back.
    pub(crate) fn rate(&self) -> f64 {
        self.back as f64 / self.seconds
    }

    /// The part that did not, in percent.
    pub(crate) fn loss(&self) -> f64 {
        (self.sent - self.back) as f64 * 100.0 / self.sent as f64
    }
}

/// One question.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Asked {
    /// When, on [`clock`], in seconds.
    pub(crate) begun: f64,
    pub(crate) took: f64,
    /// Who has answered.
    pub(crate) answer: Result<String, String>,
}

/// How requests beside a bulk stream went.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Beside {
    pub(crate) bulk: Bulk,
    pub(crate) requests: Requests,
}

/// Seconds on a clock that all processes of this machine share.
pub(crate) fn clock() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// Clients that wait for orders.
pub(crate) struct Clients(Child);

impl Clients {
    pub(crate) fn start(space: &Space) -> anyhow::Result<Self> {
        Ok(Self(Child::own_by(space.command(&std::env::current_exe()?), &[ROLE])?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Gives an order, and does not wait for what comes of it.
    pub(crate) fn begin(&mut self, order: &Order) -> anyhow::Result<()> {
        Ok(self.0.tell(&serde_json::to_string(order)?)?)
    }

    /// Waits for what comes of an order.
    pub(crate) fn end<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let said: Result<T, String> = serde_json::from_str(&self.0.line()?)?;
        said.map_err(|why| anyhow::anyhow!("clients: {why}"))
    }

    /// Both.
    pub(crate) fn carry_out<T: DeserializeOwned>(&mut self, order: &Order) -> anyhow::Result<T> {
        self.begin(order)?;
        self.end()
    }
}
