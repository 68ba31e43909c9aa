//! Pure: what people and programs are shown of tokens. Beside a token that was just made, nothing of any secret.

use landbridge_gateway::join::{
    Listed,
    record::{State, Used},
    token::Token,
};
use landbridge_model::Timestamp;
use serde::Serialize;

use crate::command::output::table;

/// A token that was just made.
pub(super) struct Issued {
    pub(super) token: Token,
}

/// The same for a program.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    token: String,
    id: String,
    cluster_set: String,
    hub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    addresses: Vec<String>,
    root_fingerprint: String,
    expires: String,
}

impl Issued {
    /// For people, beside the token.
    pub(super) fn told(&self) -> String {
        let Token { set, cluster, expires, addresses, secret, .. } = &self.token;
        let whom =
            cluster.as_ref().map_or_else(|| "one cluster".to_owned(), |id| format!("cluster {id}"));
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!(
            "Lets {whom} into set {set}, once, until {}. It dials {}.\n\
             Whoever has it can do that: hand it over as you would a password. Taken back by:\n  \
             landbridge token revoke {}\n",
            date(*expires),
            addresses.join(" or "),
            secret.id(),
        )
    }

    pub(super) fn described(&self) -> Described {
        let token = &self.token;
        Described {
            token: token.to_string(),
            id: token.secret.id(),
            cluster_set: token.set.to_string(),
            hub: token.hub.to_string(),
            cluster: token.cluster.as_ref().map(ToString::to_string),
            addresses: token.addresses.iter().map(ToString::to_string).collect(),
            root_fingerprint: token.root.to_string(),
            expires: date(token.expires),
        }
    }
}

/// One token of the hub, for a program.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Row {
    fn of(listed: &Listed, now: Timestamp) -> Self {
        let id = listed.id.clone();
        let record = match &listed.record {
            Ok(record) => record,
            Err(problem) => {
                let [cluster, issued, expires, used_at, used_by] = [const { None }; 5];
                let (state, problem) = ("unreadable", Some(problem.to_string()));
                return Self { id, state, cluster, issued, expires, used_at, used_by, problem };
            }
        };
        let state = match record.state(now) {
            State::Open => "open",
            State::Used => "used",
            State::Expired => "expired",
        };
        Self {
            id,
            state,
            cluster: record.cluster.as_ref().map(ToString::to_string),
            issued: Some(date(record.issued)),
            expires: Some(date(record.expires)),
            used_at: record.used.as_ref().map(|used| date(used.at)),
            used_by: record.used.as_ref().map(|used| used.by.to_string()),
            problem: None,
        }
    }
}

/// All of them, for a program.
pub(super) fn described(all: &[Listed], now: Timestamp) -> Vec<Row> {
    all.iter().map(|listed| Row::of(listed, now)).collect()
}

/// All of them, for people.
pub(super) fn list(all: &[Listed], now: Timestamp) -> String {
    if all.is_empty() {
        return "no tokens: `landbridge token issue` makes one\n".into();
    }
    let head = ["ID", "FOR", "STATE", "ISSUED", "ENDS", "USED BY"].map(str::to_owned);
    let mut rows = vec![head];
    let mut problems = String::new();
    for row in described(all, now) {
        let cell = |value: Option<String>, or: &str| value.unwrap_or_else(|| or.to_owned());
        problems.extend(row.problem.map(|problem| format!("{problem}\n")));
        rows.push([
            row.id,
            cell(row.cluster, "any"),
            row.state.to_owned(),
            cell(row.issued, "-"),
            cell(row.expires, "-"),
            cell(row.used_by, ""),
        ]);
    }
    format!("{}{problems}", table(&rows))
}

/// What was taken back, and what that does not do.
pub(super) fn revoked(listed: &Listed) -> String {
    let id = &listed.id;
    let used = listed.record.as_ref().ok().and_then(|record| record.used.as_ref());
    match used {
        None => format!("token {id} lets nobody in any more\n"),
        Some(Used { by, at, .. }) => format!(
            "token {id} is forgotten. {by} has used it at {} and is a member still: what it may do ends when Member {by} and namespace cluster-{by} are deleted from the hub\n",
            date(*at)
        ),
    }
}

/// To the second, as RFC 3339 has it.
fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.as_millis().div_euclid(1000));
    at.map_or_else(|_| "never".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use landbridge_gateway::join::{
        record::{Claim, Record},
        token::{Fingerprint, TokenSecret},
    };
    use landbridge_model::{ClusterId, ClusterSetId, GatewayAddress};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn id(text: &str) -> ClusterId {
        ClusterId::parse(text).unwrap()
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + minutes * 60_000)
    }

    fn listed(byte: u8, cluster: Option<&str>, minutes: i64, by: Option<&str>) -> Listed {
        let secret = TokenSecret::new([byte; 32]);
        let record = Record {
            hash: secret.hash(),
            cluster: cluster.map(id),
            issued: at(minutes),
            expires: at(minutes + 60),
            used: None,
        };
        let record = match by {
            None => record,
            Some(by) => {
                let claim = Claim { cluster: id(by), key: Fingerprint::of(b"key") };
                record.admit(&secret, &claim, at(minutes + 1)).unwrap()
            }
        };
        Listed { id: secret.id(), record: Ok(record) }
    }

    #[test]
    fn a_list_tells_what_became_of_each() {
        let all = [
            listed(1, None, -90, None),
            listed(2, Some("berlin"), -30, Some("berlin")),
            listed(3, Some("amsterdam-2"), 0, None),
        ];
        let expected = "\
ID           FOR           STATE     ISSUED                 ENDS                   USED BY
eb6mt112og   any           expired   2026-09-21T12:43:20Z   2026-09-21T13:43:20Z
em3nnd0t74   berlin        used      2026-09-21T13:43:20Z   2026-09-21T14:43:20Z   berlin
ci5abhbpvc   amsterdam-2   open      2026-09-21T14:13:20Z   2026-09-21T15:13:20Z
";
        assert_eq!(list(&all, NOW), expected);
        assert_eq!(list(&[], NOW), "no tokens: `landbridge token issue` makes one\n");
    }

    #[test]
    fn what_was_taken_back_is_told_with_what_goes_on() {
        let open = listed(1, None, 0, None);
        assert_eq!(revoked(&open), format!("token {} lets nobody in any more\n", open.id));
        let told = revoked(&listed(2, None, -5, Some("berlin")));
        assert!(
            told.contains("berlin has used it at 2026-09-21T14:09:20Z and is a member still"),
            "{told}"
        );
    }

    #[test]
    fn who_gets_a_token_is_told_what_it_is() {
        let token = Token {
            set: ClusterSetId::parse("prod").unwrap(),
            hub: id("paris"),
            cluster: Some(id("berlin")),
            addresses: ["192.0.2.1:4433", "[2001:db8::1]:4433"]
                .map(|at| GatewayAddress(at.parse().unwrap()))
                .into(),
            root: Fingerprint::of(b"root"),
            expires: at(60),
            secret: TokenSecret::new([4; 32]),
        };
        let issued = Issued { token };
        let told = issued.told();
        let id = issued.token.secret.id();
        let expected = format!(
            "Lets cluster berlin into set prod, once, until 2026-09-21T15:13:20Z. It dials 192.0.2.1:4433 or [2001:db8::1]:4433.\n\
             Whoever has it can do that: hand it over as you would a password. Taken back by:\n  landbridge token revoke {id}\n"
        );
        assert_eq!(told, expected);
        assert!(!told.contains(&issued.token.to_string()));
        let described = serde_json::to_value(issued.described()).unwrap();
        assert_eq!(described["token"].as_str().unwrap().parse(), Ok(issued.token));
        assert_eq!(described["clusterSet"], "prod");
    }
}
