//! Pure: what people and programs are told of a member that is one no more, or is drained.

use std::time::Duration;

use landbridge_model::ClusterId;
use serde_json::{Value, json};

/// A member that is one no more.
#[derive(Clone, Debug)]
pub(crate) struct Parted {
    pub(crate) cluster: ClusterId,
    /// The generation that is over.
    pub(crate) generation: u64,
    /// How many exports it had.
    pub(crate) exports: usize,
    /// The tokens that were taken back with it.
    pub(crate) tokens: Vec<String>,
    /// How long it took until the hub's own cluster had dropped it.
    pub(crate) dropped: Option<Duration>,
}

impl Parted {
    /// For people; `hub` is what the hub's own cluster is called.
    pub(crate) fn text(&self, hub: &str) -> String {
        let Self { cluster, generation, exports, tokens, .. } = self;
        let were = if *exports == 1 { "export is" } else { "exports are" };
        let dropped = match self.dropped {
            Some(after) => {
                let tenths = (after.as_millis() + 50) / 100;
                format!(
                    "{hub} dropped it {}.{} s later, and so does every member that hears the hub.",
                    tenths / 10,
                    tenths % 10
                )
            }
            None => format!(
                "{hub} has not dropped it yet: does its controller run? `kubectl --namespace landbridge-system get pods` tells."
            ),
        };
        let taken = match tokens.len() {
            0 => String::new(),
            _ => format!(
                "Tokens that it could have come back by are taken back: {}.\n",
                tokens.join(", ")
            ),
        };
        format!(
            "{cluster} is no member of the set any more: {exports} {were} gone, and its rights on the hub.\n{dropped}\n{taken}\
             Nothing that it has lets it in again: its certificates are of generation {generation}, the next is of a later one.\n\
             To let it in again: landbridge token issue --cluster {cluster}\n"
        )
    }

    /// For programs.
    pub(crate) fn described(&self) -> Value {
        let Self { cluster, generation, exports, tokens, dropped } = self;
        let millis = dropped.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        json!({"cluster": cluster.as_str(), "generation": generation, "exports": exports, "tokens": tokens,
            "droppedAfterMilliseconds": millis})
    }
}

/// What is told of a member that is drained, or is not any more.
pub(crate) fn drained(cluster: &ClusterId, drained: bool, changed: bool) -> String {
    let already = if changed { "" } else { "already " };
    if drained {
        format!(
            "{cluster} is {already}drained: members send it no new calls while another one serves, and what is open goes on.\n\
             A service that it alone exports is called as before, and so is each endpoint of a headless one.\n\
             How many calls are open there: landbridge_gateway_connections_active of its gateways. Taken back by:\n  landbridge undrain {cluster}\n"
        )
    } else {
        format!("{cluster} {already}gets its calls as before.\n")
    }
}

/// The same for programs.
pub(crate) fn described(cluster: &ClusterId, drained: bool, changed: bool) -> Value {
    json!({"cluster": cluster.as_str(), "drained": drained, "changed": changed})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drains_a_member_is_told_what_goes_on() {
        let berlin = "berlin".parse().unwrap();
        let told = drained(&berlin, true, true);
        assert!(told.starts_with("berlin is drained: members send it no new calls"), "{told}");
        assert!(told.ends_with("  landbridge undrain berlin\n"), "{told}");
        assert!(drained(&berlin, true, false).starts_with("berlin is already drained"));
        assert_eq!(drained(&berlin, false, true), "berlin gets its calls as before.\n");
        assert_eq!(
            described(&berlin, true, false),
            json!({"cluster": "berlin", "drained": true, "changed": false})
        );
    }

    #[test]
    fn people_are_told_what_is_gone_and_how_it_may_come_back() {
        let mut parted = Parted {
            cluster: "berlin".parse().unwrap(),
            generation: 3,
            exports: 2,
            tokens: vec!["gs3q0bv2l4".into()],
            dropped: Some(Duration::from_millis(412)),
        };
        assert_eq!(
            parted.text("paris"),
            "berlin is no member of the set any more: 2 exports are gone, and its rights on the hub.\n\
             paris dropped it 0.4 s later, and so does every member that hears the hub.\n\
             Tokens that it could have come back by are taken back: gs3q0bv2l4.\n\
             Nothing that it has lets it in again: its certificates are of generation 3, the next is of a later one.\n\
             To let it in again: landbridge token issue --cluster berlin\n"
        );
        let described = parted.described();
        assert_eq!(described["droppedAfterMilliseconds"], 412);
        assert_eq!(described["generation"], 3);
        parted.dropped = None;
        parted.exports = 1;
        let text = parted.text("paris");
        assert!(
            text.contains("1 export is gone") && text.contains("does its controller run?"),
            "{text}"
        );
    }
}
