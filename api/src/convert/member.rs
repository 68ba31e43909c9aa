//! Pure: Member and Peer to [`Peer`] and back.

use landbridge_model::{ClusterId, GatewayAddress, NetworkName, Peer, RegionName};

use super::{ConvertError, Reading};
use crate::landbridge::{self, GatewayEndpoint, Member};

/// Reads a Member as a peer of the others.
///
/// # Errors
/// [`ConvertError`] names the field that is at fault.
pub fn member_peer(member: &Member) -> Result<Peer, ConvertError> {
    let reading = Reading { kind: "Member", metadata: &member.metadata };
    let status = member.status.as_ref();
    let gateways = status.map_or(&[][..], |status| &status.gateways);
    let peer =
        read(&reading, member.spec.generation, &member.spec.network, "status.gateways", gateways)?;
    let region = region(status.and_then(|status| status.region.as_deref()));
    Ok(Peer { region, drained: member.spec.drained, ..peer })
}

/// Reads a Peer.
///
/// # Errors
/// [`ConvertError`] names the field that is at fault.
pub fn peer(peer: &landbridge::Peer) -> Result<Peer, ConvertError> {
    let reading = Reading { kind: "Peer", metadata: &peer.metadata };
    let spec = &peer.spec;
    let read = read(&reading, spec.generation, &spec.network, "spec.gateways", &spec.gateways)?;
    Ok(Peer { region: region(spec.region.as_deref()), drained: spec.drained, ..read })
}

/// A region that cannot be read is none: a member is not to be lost for where it says that it is.
fn region(text: Option<&str>) -> Option<RegionName> {
    text.filter(|text| !text.is_empty()).and_then(|text| RegionName::parse(text).ok())
}

fn read(
    reading: &Reading<'_>,
    generation: i64,
    network: &str,
    field: &str,
    gateways: &[GatewayEndpoint],
) -> Result<Peer, ConvertError> {
    let name = reading.metadata.name.as_deref().unwrap_or_default();
    let address = |gateway: &GatewayEndpoint| {
        let parsed = gateway.address.parse().map(GatewayAddress);
        parsed.map_err(|_| {
            reading.error(
                field,
                format!(
                    "{:?} is not an IP address and port such as 192.0.2.11:4433",
                    gateway.address
                ),
            )
        })
    };
    Ok(Peer {
        cluster: reading.name("metadata.name", ClusterId::parse(name))?,
        generation: u64::try_from(generation).map_err(|_| {
            reading.error("spec.generation", "is negative: generations count from 1")
        })?,
        network: reading.name("spec.network", NetworkName::parse(network))?,
        region: None,
        drained: false,
        gateways: gateways.iter().map(address).collect::<Result<_, _>>()?,
    })
}

/// Writes the addresses of gateways for a Member's status or a Peer's spec.
#[must_use]
pub fn gateway_endpoints(gateways: &[GatewayAddress]) -> Vec<GatewayEndpoint> {
    gateways.iter().map(|gateway| GatewayEndpoint { address: gateway.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, address: &str) -> Result<Peer, String> {
        let spec = landbridge::PeerSpec {
            generation: 1,
            network: "a".into(),
            region: Some("eu-west".into()),
            drained: true,
            gateways: vec![GatewayEndpoint { address: address.into() }],
        };
        peer(&landbridge::Peer::new(name, spec)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_peer_is_read_with_its_addresses() {
        let peer = check("tokyo", "[2001:db8::11]:4433").unwrap();
        assert_eq!(gateway_endpoints(&peer.gateways)[0].address, "[2001:db8::11]:4433");
        assert_eq!(peer.region.unwrap().as_str(), "eu-west");
        assert!(peer.drained);
    }

    #[test]
    fn an_address_without_port_is_told() {
        let error = check("tokyo", "192.0.2.11").unwrap_err();
        assert!(error.starts_with("Peer tokyo: spec.gateways: \"192.0.2.11\" is not"), "{error}");
        assert!(check("Tokyo", "192.0.2.11:4433").is_err());
    }
}
