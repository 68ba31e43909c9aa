//! A sample of the queries, in the log.
//!
//! Every n-th is written, each thread and connection counting for itself: what everybody asks is seen, and the log does
//! not cost more than the answers.

use std::{net::SocketAddr, num::NonZeroU32};

use tracing::info;

use crate::{
    answer::{Outcome, Transport},
    message::{self, Odd, Query},
    name::Shown,
};

/// Counts towards the next query that is written.
#[derive(Debug)]
pub(crate) struct Sampler {
    every: Option<NonZeroU32>,
    since: u32,
}

impl Sampler {
    /// Writes one of so many; none where nothing is given.
    pub(crate) fn new(every: Option<NonZeroU32>) -> Self {
        Self { every, since: 0 }
    }

    /// Takes note of a query.
    pub(crate) fn note(
        &mut self,
        packet: &[u8],
        outcome: Outcome,
        from: SocketAddr,
        transport: Transport,
    ) {
        let Some(every) = self.every else {
            return;
        };
        self.since += 1;
        if self.since < every.get() {
            return;
        }
        self.since = 0;
        let (question, result) = (asked(packet), told(outcome));
        let transport = match transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        info!(target: "landbridge_dns::query", %from, transport, question, result, "query");
    }
}

/// The name and the number of the type that are asked for.
fn asked(packet: &[u8]) -> String {
    let text = |query: &Query<'_>| format!("{} TYPE{}", Shown(&query.name), query.record_type);
    match message::plain(packet) {
        Some(query) => text(&query),
        None => match message::odd(packet) {
            Odd::Query(query) => text(&query),
            Odd::Reject { .. } | Odd::Response | Odd::Short => "-".into(),
        },
    }
}

fn told(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { rcode, .. } => rcode.as_str(),
        Outcome::Elsewhere => "forwarded",
        Outcome::Response | Outcome::Short => "dropped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::packet;

    #[test]
    fn what_is_asked_is_told_in_one_line() {
        assert_eq!(asked(&packet("web.shop.svc A", None)), "web.shop.svc.clusterset.local. TYPE1");
        assert_eq!(asked(b"noise"), "-");
    }

    #[test]
    fn each_nth_query_is_the_one() {
        let from = "192.0.2.1:5353".parse().unwrap();
        let mut sampler = Sampler::new(NonZeroU32::new(3));
        let mut written = Vec::new();
        for _ in 0..7 {
            sampler.note(b"noise", Outcome::Short, from, Transport::Udp);
            written.push(sampler.since == 0);
        }
        assert_eq!(written, [false, false, true, false, false, true, false]);
    }
}
