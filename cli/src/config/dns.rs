//! Pure: the settings of `landbridge dns`.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use landbridge_dns::{Config, CookieSecret, Cookies, Ttl, Zone};

use super::{common::Common, reader::Reader, setting::Setting, value};

/// Longer than this a name that is gone would still be called a minute later.
const MAX_TTL: Duration = Duration::from_secs(60);
/// More threads than any machine has cores are a slip of the pen.
const MAX_WORKERS: u32 = 1_024;

const ADMIN_LISTEN: Setting = Setting::one(
    "admin-listen",
    "IP:PORT",
    "Where /metrics, /healthz, /readyz and /debug/snapshot are served; any:PORT is every address",
)
.or("127.0.0.1:9402");
const COOKIE_SECRET_FILE: Setting = Setting::one(
    "cookie-secret-file",
    "FILE",
    "32 hexadecimal digits behind DNS cookies, the same for all replicas [default: drawn at the start]",
);
const LAME_DUCK: Setting = Setting::one(
    "lame-duck",
    "DURATION",
    "How long to go on answering after having said not to be ready any more, when told to stop",
)
.or("5s");
const LISTEN: Setting = Setting::list(
    "listen",
    "IP:PORT",
    "Where to answer queries, UDP and TCP each, such as 127.0.0.1:5300; any:PORT, in a pod, is every address",
);
const LOG_ONE_IN: Setting =
    Setting::one("log-one-in", "N", "Write one of so many queries to the log [default: none]");
const MAX_SNAPSHOT_AGE: Setting = Setting::one(
    "max-snapshot-age",
    "DURATION",
    "Say not to be ready once the Kubernetes API has been away for so long; what was known is answered all the same [default: never]",
);
const NEGATIVE_TTL: Setting = Setting::one(
    "negative-ttl",
    "DURATION",
    "How long others may remember that a name is not there: whole seconds, at most 60s",
)
.or("5s");
const RATE_LIMIT: Setting = Setting::one(
    "rate-limit",
    "N",
    "Answers a second over UDP that one source without a cookie may have [default: any number]",
);
const REQUIRE_COOKIES: Setting = Setting::switch(
    "require-cookies",
    "Answer over UDP only clients that have a DNS cookie of this server, and send others to TCP",
);
const SRV_TTL: Setting = Setting::one(
    "srv-ttl",
    "DURATION",
    "How long others may keep SRV records: whole seconds, at most 60s",
)
.or("5s");
const TTL: Setting = Setting::one(
    "ttl",
    "DURATION",
    "How long others may keep addresses: whole seconds, at most 60s",
)
.or("5s");
const UPSTREAM: Setting = Setting::list(
    "upstream",
    "IP:PORT",
    "A resolver to ask about other zones; without any they are refused",
);
const WORKERS: Setting =
    Setting::one("workers", "N", "Threads for UDP at each address [default: one for each core]");
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
    pub(crate) server: Config,
}

impl super::Settings for Settings {
    fn table() -> Vec<&'static Setting> {
        let own: [&Setting; 14] = [
            &LISTEN,
            &ZONE,
            &TTL,
            &SRV_TTL,
            &NEGATIVE_TTL,
            &UPSTREAM,
            &MAX_SNAPSHOT_AGE,
            &RATE_LIMIT,
            &REQUIRE_COOKIES,
            &COOKIE_SECRET_FILE,
            &LOG_ONE_IN,
            &LAME_DUCK,
            &WORKERS,
            &ADMIN_LISTEN,
        ];
        [&Common::TABLE[..], &own].concat()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let common = Common::read(reader);
        let ipv6 = reader.has_ipv6();
        let listen = reader.some(&LISTEN, |text| value::sockets(text, ipv6)).concat();
        let zone = reader.required(&ZONE, Zone::parse);
        let addresses = reader.required(&TTL, ttl);
        let ports = reader.required(&SRV_TTL, ttl);
        let negative = reader.required(&NEGATIVE_TTL, ttl);
        let upstream = reader.list(&UPSTREAM, value::socket);
        if upstream.iter().any(|resolver| listen.contains(resolver)) {
            reader.wrong(&UPSTREAM, "is this server itself: name another resolver");
        }
        let max_age = reader.optional(&MAX_SNAPSHOT_AGE, value::duration);
        let rate = reader.optional(&RATE_LIMIT, |text| value::number(text, u32::MAX));
        let cookies = cookies(reader);
        let log_one_in = reader.optional(&LOG_ONE_IN, |text| value::number(text, u32::MAX));
        let lame_duck = reader.required(&LAME_DUCK, value::duration);
        let workers = reader.optional(&WORKERS, |text| value::number(text, MAX_WORKERS));
        let admin = reader.required(&ADMIN_LISTEN, |text| value::socket_or_any(text, ipv6));
        let ttl = Ttl { addresses: addresses?, negative: negative?, ports: ports? };
        let server = Config {
            cookies: cookies?,
            lame_duck: lame_duck?,
            listen,
            log_one_in,
            max_age,
            rate,
            ttl,
            upstream,
            workers: workers.and_then(|workers| NonZeroUsize::try_from(workers).ok()),
            zone: zone?,
        };
        Some(Self { admin: admin?, common: common?, server })
    }
}

fn cookies(reader: &mut Reader<'_>) -> Option<Cookies> {
    let required = reader.required(&REQUIRE_COOKIES, value::boolean);
    let mut secret = None;
    if let Some(path) = reader.optional(&COOKIE_SECRET_FILE, value::path) {
        secret = CookieSecret::parse(&reader.file(&COOKIE_SECRET_FILE, &path)?);
        if secret.is_none() {
            reader.wrong(
                &COOKIE_SECRET_FILE,
                "does not hold a secret: `openssl rand -hex 16` writes the 32 digits that it should hold",
            );
        }
    }
    Some(Cookies { required: required?, secret })
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
    use crate::config::{
        Flags, load,
        testing::{Given, load_text},
    };

    #[test]
    fn addresses_to_answer_on_are_required_and_may_be_many() {
        let told = load_text::<Settings>("").unwrap_err();
        assert!(told.contains("--listen: is missing"), "{told}");
        let settings =
            load_text::<Settings>("listen: [\"127.0.0.1:5300\", \"[::1]:5300\"]").unwrap();
        assert_eq!(settings.server.listen.len(), 2);
        assert_eq!(settings.server.ttl, Ttl::default());
        assert_eq!(settings.server.lame_duck, Duration::from_secs(5));
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

    #[test]
    fn a_resolver_that_is_this_server_is_refused() {
        let told =
            load_text::<Settings>("listen: 127.0.0.1:5300\nupstream: 127.0.0.1:5300").unwrap_err();
        assert!(told.contains("is this server itself"), "{told}");
    }

    #[test]
    fn a_cookie_secret_is_read_from_its_file_and_never_told() {
        let load = |text: &str| {
            let files = [("/secret".into(), text.to_owned())].into();
            let flags = "test --listen=127.0.0.1:5300 --cookie-secret-file=/secret";
            let flags = flags.split_whitespace().map(str::to_owned).collect();
            let flags = Flags::<Settings>::parse(flags).unwrap();
            load(&flags, &Given { files, ..Given::default() }).map_err(|told| told.to_string())
        };
        let settings = load("e5e973e5a6b2a43f48e7dc849e37bfcf\n").unwrap();
        assert!(settings.server.cookies.secret.is_some());
        let told = load("e5e973e5").unwrap_err();
        assert!(told.contains("openssl rand -hex 16") && !told.contains("e5e973e5"), "{told}");
    }

    #[test]
    fn numbers_are_whole_and_above_zero() {
        for text in ["rate-limit: 0", "workers: 2000", "log-one-in: many"] {
            let told =
                load_text::<Settings>(&format!("listen: 127.0.0.1:5300\n{text}")).unwrap_err();
            assert!(told.contains("give a whole number"), "{told}");
        }
    }
}
