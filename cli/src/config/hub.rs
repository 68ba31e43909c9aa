//! What a gateway is told of the hub: at the hub, where what it gives to members is.

use landbridge_gateway::{Hub, Target};

use super::{reader::Reader, setting::Setting};

const AUTHORITY: Setting = Setting::one(
    "authority",
    "HOST:PORT",
    "In the hub's cluster: the set's authority. Clusters that join are brought there before they have a certificate, by the port where other clusters' gateways dial [default: none, nobody is let in here]",
);

/// The rows of a gateway's table.
pub(super) const TABLE: [&Setting; 1] = [&AUTHORITY];

pub(super) fn read(reader: &mut Reader<'_>) -> Hub {
    Hub { authority: reader.optional(&AUTHORITY, str::parse::<Target>) }
}
