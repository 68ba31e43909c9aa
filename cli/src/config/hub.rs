//! What a gateway is told of the hub: at the hub, where what it gives to members is; in a member, the way there.

use std::net::SocketAddr;

use landbridge_gateway::{Hub, Target, Through};
use landbridge_model::ClusterId;

use super::{reader::Reader, setting::Setting, value};

const AUTHORITY: Setting = Setting::one(
    "authority",
    "HOST:PORT",
    "In the hub's cluster: the set's authority. Clusters that join are brought there before they have a certificate, by the port where other clusters' gateways dial, and members by their links [default: none, nobody is let in here]",
);
const AUTHORITY_LISTEN: Setting = Setting::one(
    "authority-listen",
    "IP:PORT",
    "In a member, with --hub: where its controller reaches the set's authority through the link to the hub",
);
const HUB: Setting = Setting::one(
    "hub",
    "CLUSTER",
    "In a member: the cluster that is the hub, whose API is reached through the link to it",
);
const HUB_API: Setting = Setting::one(
    "hub-api",
    "HOST:PORT",
    "In the hub's cluster: its Kubernetes API, to which members' streams are brought, and to nothing else [default: none, this cluster is no hub]",
);
const HUB_LISTEN: Setting = Setting::one(
    "hub-listen",
    "IP:PORT",
    "In a member, with --hub: where its controller, and nobody else, reaches the hub's API through the link to the hub",
);

/// The rows of a gateway's table.
pub(super) const TABLE: [&Setting; 5] =
    [&HUB_API, &AUTHORITY, &HUB, &HUB_LISTEN, &AUTHORITY_LISTEN];

pub(super) fn read(reader: &mut Reader<'_>, ipv6: bool) -> Hub {
    let api = reader.optional(&HUB_API, str::parse::<Target>);
    let authority = reader.optional(&AUTHORITY, str::parse::<Target>);
    let cluster = reader.optional(&HUB, ClusterId::parse);
    let listens = [&HUB_LISTEN, &AUTHORITY_LISTEN].map(|setting| {
        let at: Option<SocketAddr> =
            reader.optional(setting, |text| value::socket_or_any(text, ipv6));
        if reader.is_given(setting) && !reader.is_given(&HUB) {
            reader.wrong(setting, "needs --hub: say which cluster is the hub");
        }
        at
    });
    if reader.is_given(&HUB) && !reader.is_given(&HUB_LISTEN) {
        reader.wrong(&HUB, "leads nowhere: say with --hub-listen where the controller connects");
    }
    let [listens_for_api, listens_for_authority] = listens;
    let through = cluster.map(|cluster| Through {
        cluster,
        api: listens_for_api,
        authority: listens_for_authority,
    });
    Hub { api, authority, through }
}
