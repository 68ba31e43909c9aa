//! Pure: texts of settings into values. Every error says what would be right, with an example.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use landbridge_model::GatewayAddress;

/// What stands for every address of this machine: a pod learns its addresses when it is started.
const ANY: &str = "any";

/// A path; not empty.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty: name a file".into());
    }
    Ok(text.into())
}

/// A name of someone else's making, such as a context; not empty.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty: give a name".into());
    }
    Ok(text.to_owned())
}

/// A label value of Kubernetes, such as a region.
pub(crate) fn label_value(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: char| c.is_ascii_alphanumeric();
    let good = text.len() <= landbridge_model::name::MAX_LABEL
        && text.starts_with(ends)
        && text.ends_with(ends)
        && text.chars().all(inner);
    good.then(|| text.to_owned()).ok_or_else(|| {
        "use at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, \
         such as eu-west-1"
            .into()
    })
}

/// A whole number from 1 to `most`.
pub(super) fn number(text: &str, most: u32) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|number: &NonZeroU32| number.get() <= most)
        .ok_or_else(|| format!("is out of range: give a whole number from 1 to {most}"))
}

/// An IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "is not an IP address: give one such as 10.244.1.10 or fd00::10".into())
}

/// An IP address and port to listen on; port 0 lets the system choose.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "is not an IP address and port: give both, such as 127.0.0.1:9401 or [::1]:9401".into()
    })
}

/// An IP address, or `any`; `ipv6` says whether this machine has that family.
pub(super) fn ip_or_any(text: &str, ipv6: bool) -> Result<IpAddr, String> {
    if text == ANY { Ok(any(ipv6)) } else { ip(text) }
}

/// An IP address or `any`, and a port to listen on.
pub(super) fn socket_or_any(text: &str, ipv6: bool) -> Result<SocketAddr, String> {
    match any_port(text) {
        Some(port) => Ok((any(ipv6), port).into()),
        None => socket(text),
    }
}

/// The same with an address for each family, where one for both will not do.
pub(super) fn sockets(text: &str, ipv6: bool) -> Result<Vec<SocketAddr>, String> {
    let Some(port) = any_port(text) else {
        return socket(text).map(|address| vec![address]);
    };
    let v6 = ipv6.then(|| (Ipv6Addr::UNSPECIFIED, port).into());
    Ok([SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))].into_iter().chain(v6).collect())
}

fn any_port(text: &str) -> Option<u16> {
    text.strip_prefix(ANY)?.strip_prefix(':')?.parse().ok()
}

/// Listened on, the one of IPv6 takes both families.
fn any(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Where others reach a gateway: an address and port that mean something elsewhere.
pub(crate) fn gateway_address(text: &str) -> Result<GatewayAddress, String> {
    let address = socket(text)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err("cannot be dialled by others: give the address and port that peers reach, \
                    such as 192.0.2.11:4433"
            .into());
    }
    Ok(GatewayAddress(address))
}

/// A length of time: a whole number and `ms`, `s` or `m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        "is not a length of time: give a whole number and a unit, such as 500ms, 3s or 1m"
            .to_owned()
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err(wrong()),
    }
}

/// On or off.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false: give one of the two".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, expected) in [("500ms", 500), ("3s", 3_000), ("1m", 60_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "s", "3", "3h", "3 s", "-3s", "3.5s", "99999999999s", "s3", "3µs"] {
            assert!(duration(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
    }

    #[test]
    fn any_address_is_of_the_families_that_the_machine_has() {
        assert_eq!(ip_or_any("any", true).unwrap().to_string(), "::");
        assert_eq!(ip_or_any("any", false).unwrap().to_string(), "0.0.0.0");
        assert_eq!(ip_or_any("192.0.2.1", true).unwrap().to_string(), "192.0.2.1");
        assert_eq!(socket_or_any("any:53", false).unwrap().to_string(), "0.0.0.0:53");
        let told = |ipv6| -> Vec<String> {
            sockets("any:53", ipv6).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!([told(true), told(false)], [vec!["0.0.0.0:53", "[::]:53"], vec!["0.0.0.0:53"]]);
        for text in ["any", "any:", "any:x", "anybody:1"] {
            assert!(sockets(text, true).unwrap_err().contains("give both"), "{text}");
        }
    }

    #[test]
    fn an_advertised_address_can_be_dialled() {
        for text in ["192.0.2.11:4433", "[2001:db8::11]:4433"] {
            assert_eq!(gateway_address(text).unwrap().to_string(), text);
        }
        for text in ["0.0.0.0:4433", "[::]:4433", "192.0.2.11:0", "192.0.2.11", "gateway:4433"] {
            assert!(gateway_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_region_is_a_label_value() {
        for text in ["eu-west-1", "EU", "a.b_c"] {
            assert_eq!(label_value(text).unwrap(), text);
        }
        for text in ["", "-eu", "eu west", "ü", &"a".repeat(64)] {
            assert!(label_value(text).is_err(), "{text}");
        }
    }
}
