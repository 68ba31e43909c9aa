//! Pure: the settings of `landbridge dns`.

use std::{net::SocketAddr, time::Duration};

use landbridge_dns::Zone;

use super::{common::Common, reader::Reader, setting::Setting, value};

/// Longer than this a name that is gone would still be called a minute later.
const MAX_TTL: Duration = Duration::from_secs(60);

const ADMIN_LISTEN: Setting = Setting::one(
    "admin-listen",
    "IP:PORT",
    "Where /metrics, /healthz, /readyz and /debug/snapshot are served; any:PORT is every address",
)
.or("127.0.0.1:9402");
const LISTEN: Setting = Setting::list(
    "listen",
    "IP:PORT",
    "Where to answer queries, UDP and TCP each, such as 127.0.0.1:5300; any:PORT, in a pod, is every address",
);
const TTL: Setting = Setting::one(
    "ttl",
    "DURATION",
    "How long others may keep an answer: whole seconds, at most 60s",
)
.or("5s");

const ZONE: Setting = Setting::one(
    "zone",
    "NAME",
    "What to answer for; only clusters of one set with the same zone agree on names",
)
.or("clusterset.local");

/// Validated.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) admin: SocketAddr,
    pub(crate) common: Common,
    pub(crate) listen: Vec<SocketAddr>,
    /// In whole seconds.
    pub(crate) ttl: Duration,
    pub(crate) zone: Zone,
}

impl super::Settings for Settings {
    fn table() -> Vec<&'static Setting> {
        let own: [&Setting; 4] = [&LISTEN, &ZONE, &TTL, &ADMIN_LISTEN];
        [&Common::TABLE[..], &own].concat()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let common = Common::read(reader);
        let ipv6 = reader.has_ipv6();
        let listen = reader.some(&LISTEN, |text| value::sockets(text, ipv6));
        let zone = reader.required(&ZONE, Zone::parse);
        let ttl = reader.required(&TTL, ttl);
        let admin = reader.required(&ADMIN_LISTEN, |text| value::socket_or_any(text, ipv6));
        let listen = listen.concat();
        Some(Self { admin: admin?, common: common?, listen, ttl: ttl?, zone: zone? })
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = value::duration(text)?;
    if ttl.subsec_nanos() == 0 && ttl <= MAX_TTL {
        Ok(ttl)
    } else {
        Err("is out of range: give whole seconds from 0s to 60s".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::load_text;

    #[test]
    fn addresses_to_answer_on_are_required_and_may_be_many() {
        let told = load_text::<Settings>("").unwrap_err();
        assert!(told.contains("--listen: is missing"), "{told}");
        let settings =
            load_text::<Settings>("listen: [\"127.0.0.1:5300\", \"[::1]:5300\"]").unwrap();
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(settings.ttl, Duration::from_secs(5));
    }

    #[test]
    fn a_ttl_is_whole_seconds_within_a_minute() {
        for text in ["0s", "60s", "1m", "2000ms"] {
            assert!(ttl(text).is_ok(), "{text}");
        }
        for text in ["61s", "500ms", "2m", "five"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
